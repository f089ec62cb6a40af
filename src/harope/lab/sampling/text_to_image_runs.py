"""Pictures of prompts by a run of text-to-image training."""

import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope.integrations import NotFoldedWarning, fold
from harope.lab.data.latents.encode import decode_latents, load_vae
from harope.lab.data.png import to_uint8
from harope.lab.sampling.runs import find_train_config
from harope.lab.text import TextEncoder, open_text_encoder
from harope.lab.training.serialization import to_json
from harope.lab.training.tasks.text_to_image import NULL_CAPTION, TextToImageConfig, sample_captions
from harope.models.checkpoint_files import list_checkpoints
from harope.models.mmdit import read_mmdit
from harope.rope import set_scaling
from harope.rope.scaling import ScalingMethod

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What to change in how a run draws."""

    weights: str = "ema"
    """Averaged ones, "ema", or those of the last step, "model"."""
    sampler: str | None = None
    """See SamplingConfig, which this and the next three replace in part."""
    num_steps: int | None = None
    guidance: float | None = None
    guidance_channels: int | None = None
    height: int | None = None
    """Pixels or latents; as trained by default."""
    width: int | None = None
    """The same."""
    scaling: ScalingMethod = "extrapolate"
    """How positions read another size than the trained one."""
    vae: str | None = None
    """Folder or hub id of the AutoencoderKL that decodes latents."""

    def sampling(self) -> dict[str, Any]:
        """Fields of SamplingConfig."""
        names = ("sampler", "num_steps", "guidance", "guidance_channels")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


class RunGenerator:
    """Draws as the run's own sample grids do, with the encoding folded where that can be."""

    def __init__(
        self,
        model: "SD3Transformer2DModel",
        config: TextToImageConfig,
        encoder: TextEncoder,
        *,
        size: tuple[int, int],
        vae: Any,
        made_by: dict[str, Any],
    ) -> None:
        self._model, self._config, self._encoder = model, config, encoder
        self._shape = (int(model.config.in_channels), *size)
        self._vae, self._made_by = vae, made_by
        self._process = config.create_process()
        self._null = encoder.encode([NULL_CAPTION])

    @classmethod
    def load(cls, path: Path, options: RunOptions, device: torch.device | str) -> "RunGenerator":
        """From a run folder or one of its checkpoints.

        Raises ValueError when it is of another task, holds no checkpoint, or makes latents that
        nothing decodes.
        """
        config = find_train_config(path)
        if not isinstance(config, TextToImageConfig):
            raise ValueError(
                f"{path} does not draw from prompts: it is neither a saved diffusers pipeline "
                f"(with a model_index.json) nor a run of a text-to-image recipe"
            )
        config = replace(config, sampling=replace(config.sampling, **options.sampling()))
        model, description = read_mmdit(path, weights=options.weights)
        size = _resize(model, options, tuple(description["input_size"]))
        found = list_checkpoints(path)
        made_by = {
            "model": description,
            "train": to_json(config),
            "checkpoint": (found[-1] if found else path).name,
            "options": asdict(options),
        }
        return cls(
            _folded(model).to(device),
            config,
            open_text_encoder(config.text, device, getattr(torch, config.states.encoder_dtype)),
            size=size,
            vae=load_decoder(options.vae, int(model.config.in_channels), device),
            made_by=made_by,
        )

    def draw(self, prompts: list[str], seeds: list[int]) -> UInt8[Tensor, "batch height width 3"]:
        """One picture per prompt and seed."""
        samples = sample_captions(
            self._model,
            self._process,
            self._encoder.encode(prompts),
            self._null,
            shape=self._shape,
            seeds=seeds,
            config=self._config.sampling,
        )
        return to_uint8(samples if self._vae is None else decode_latents(self._vae, samples))

    def describe(self) -> dict[str, Any]:
        """Model, training with the sampler, checkpoint and options."""
        return self._made_by


def _resize(
    model: "SD3Transformer2DModel", options: RunOptions, trained: tuple[int, int]
) -> tuple[int, int]:
    """Height and width to draw, which the encoding is told."""
    size, patch = (
        (options.height or trained[0], options.width or trained[1]),
        model.config.patch_size,
    )
    if any(side % patch for side in size):
        raise ValueError(f"height {size[0]} and width {size[1]} are not multiples of {patch}")
    if size != trained:
        grids = [[side // patch for side in sides] for sides in (size, trained)]
        set_scaling(model, options.scaling, sizes=grids[0], train_sizes=grids[1])
    return size


def _folded(model: "SD3Transformer2DModel") -> "SD3Transformer2DModel":
    with warnings.catch_warnings():
        # Behind QK-norm matrices stay, and the pictures are the same.
        warnings.simplefilter("ignore", NotFoldedWarning)
        fold(model)
    return model


def load_decoder(path: str | None, in_channels: int, device: torch.device | str) -> Any:
    """The VAE, or None for a model of pixels. ValueError for latents without one."""
    if path is not None:
        return load_vae(path).to(device)
    if in_channels > 3:
        raise ValueError(
            f"the model makes latents of {in_channels} channels: pass --vae with the "
            f"AutoencoderKL that encoded its training data"
        )
    return None
