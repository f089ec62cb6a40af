"""Generating images with a text-to-image training run."""

import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope.integrations import NotFoldedWarning, fold
from harope.lab.data.image_io import to_uint8
from harope.lab.data.latents.vae import decode_latents, load_vae
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
    """Changes to the sampling settings of a run; None keeps the setting."""

    weights: str = "ema"
    """Weights to load: "ema" or "model"."""
    sampler: str | None = None
    """Sampler, see `SamplingConfig`."""
    num_steps: int | None = None
    """Number of sampler steps."""
    guidance: float | None = None
    """Scale of classifier-free guidance."""
    guidance_channels: int | None = None
    """Number of leading channels that guidance acts on."""
    height: int | None = None
    """Height in pixels or latents; None for that of the training."""
    width: int | None = None
    """Width in pixels or latents; None for that of the training."""
    scaling: ScalingMethod = "extrapolate"
    """How the encoding is scaled to sizes other than that of the training."""
    vae: str | None = None
    """Folder or hub id of the `AutoencoderKL` that decodes latents."""

    def sampling(self) -> dict[str, Any]:
        """Select the settings of the sampler that are changed.

        Returns:
            Fields of `SamplingConfig` to replace.
        """
        names = ("sampler", "num_steps", "guidance", "guidance_channels")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


class RunImageGenerator:
    """Text-to-image generator that samples as the run's own sample grids do.

    Args:
        model: Transformer, on its device.
        config: Configuration of the run, including the sampler.
        encoder: Text encoder.
        size: Height and width of the samples, in pixels or latents.
        vae: Decoder of latents; None for a pixel-space model.
        made_by: Description of model and sampler as JSON values.
    """

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
    def load(
        cls, path: Path, options: RunOptions, device: torch.device | str
    ) -> "RunImageGenerator":
        """Load a generator, folding the encoding into the weights where possible.

        Args:
            path: Run folder or one of its checkpoints.
            options: Changes to the run's sampling settings.
            device: Device of the model.

        Returns:
            The generator, whose model is on the device.

        Raises:
            ValueError: If the run is of another task, has no checkpoint, or generates latents while
                `options.vae` is None.
        """
        config = find_train_config(path)
        if not isinstance(config, TextToImageConfig):
            raise ValueError(
                f"{path} cannot generate images from prompts: it is neither a saved diffusers "
                f"pipeline (with a model_index.json) nor a run of a text-to-image recipe"
            )
        config = replace(config, sampling=replace(config.sampling, **options.sampling()))
        model, description = read_mmdit(path, weights=options.weights)
        size = _resize(model, options, tuple(description["input_size"]))
        checkpoints = list_checkpoints(path)
        made_by = {
            "model": description,
            "train": to_json(config),
            "checkpoint": (checkpoints[-1] if checkpoints else path).name,
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

    def generate(
        self, prompts: list[str], seeds: list[int]
    ) -> UInt8[Tensor, "batch height width 3"]:
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
        return self._made_by


def _resize(
    model: "SD3Transformer2DModel", options: RunOptions, trained: tuple[int, int]
) -> tuple[int, int]:
    """Return the height and width of the samples, after scaling the encoding to them."""
    size, patch = (
        (options.height or trained[0], options.width or trained[1]),
        model.config.patch_size,
    )
    if any(side % patch for side in size):
        raise ValueError(
            f"height {size[0]} and width {size[1]} must be multiples of the patch size {patch}"
        )
    # Loaded models extrapolate, which needs nothing that could be scaled.
    if size != trained and options.scaling != "extrapolate":
        grids = [[side // patch for side in sides] for sides in (size, trained)]
        set_scaling(model, options.scaling, sizes=grids[0], train_sizes=grids[1])
    return size


def _folded(model: "SD3Transformer2DModel") -> "SD3Transformer2DModel":
    with warnings.catch_warnings():
        # With QK-norm, matrices cannot be folded; the samples are the same either way.
        warnings.simplefilter("ignore", NotFoldedWarning)
        fold(model)
    return model


def load_decoder(path: str | None, in_channels: int, device: torch.device | str) -> Any:
    """Load the VAE that decodes a model's output.

    Args:
        path: Folder or hub id of the VAE; None for a pixel-space model.
        in_channels: Channels of the model.
        device: Device of the VAE.

    Returns:
        The VAE; None for a pixel-space model.

    Raises:
        ValueError: If the model generates latents and `path` is None.
    """
    if path is not None:
        return load_vae(path).to(device)
    if in_channels > 3:
        raise ValueError(
            f"the model generates latents of {in_channels} channels: pass --vae with the "
            f"AutoencoderKL that encoded its training data"
        )
    return None
