"""Loading a class-conditional checkpoint with the diffusion process and sampler of its training."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harope._utils.digests import weights_digest
from harope._utils.json_files import read_json
from harope.diffusion import GaussianConfig, GaussianDiffusion, Process
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.latents.vae import Vae, load_vae, scaling_factor, shift_factor
from harope.lab.training.execution import Precision, inference_precision
from harope.lab.training.run_dir import CONFIG_FILE
from harope.lab.training.serialization import from_json, to_json
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.checkpoint_files import is_training_checkpoint, list_checkpoints
from harope.models.dit import DiT
from harope.models.dit.config import DiTConfig
from harope.models.dit.fold import fold
from harope.rope import set_scaling
from harope.rope.scaling import ScalingMethod

TRAIN_FILE = "train.json"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Changes to the sampling settings of a run; None keeps the setting.

    Raises:
        ValueError: If a number is out of range.
    """

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
    precision: Precision | None = None
    """Mixed precision; None: that of the training on CUDA devices, float32 on others."""

    def __post_init__(self) -> None:
        check_sampling_options(self, "num_steps", "guidance_channels", "height", "width")

    def sampling(self) -> dict[str, Any]:
        """Select the settings of the sampler that are changed.

        Returns:
            Fields of `SamplingConfig` to replace.
        """
        names = ("sampler", "num_steps", "guidance", "guidance_channels")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


def check_sampling_options(options: Any, *counts: str) -> None:
    """Check the numbers of sampling options, where None stands for a default.

    Args:
        options: Options with the field `guidance` and the fields in `counts`.
        counts: Names of the fields that must be at least 1.

    Raises:
        ValueError: If a count is below 1, or the guidance is negative, NaN or infinite.
    """
    for name in counts:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    guidance = options.guidance
    if guidance is not None and not 0 <= guidance < math.inf:
        raise ValueError(f"guidance must be a number of at least 0, got {guidance}")


@dataclass(frozen=True)
class ClassGenerator:
    """Class-conditional model with its diffusion process and sampler."""

    model: DiT
    """Model whose encoding is folded into the weights, as fast as plain RoPE."""
    config: DiTConfig
    """Configuration of the model before folding."""
    parameters: int
    """Number of parameters before folding."""
    process: Process
    """Diffusion process of the training."""
    sampling: SamplingConfig
    """Settings of the sampler."""
    train: TrainConfig | None
    """Training configuration, if the checkpoint has one."""
    weights: str
    """Digest of the weights before folding."""
    shape: tuple[int, int, int] | None = None
    """Channels, height and width of a sample; None if the model does not know its size."""
    scaling: str | None = None
    """How the encoding is scaled to that size; None at the size of the training."""
    precision: Precision | None = None
    """Mixed precision; None: that of the training on CUDA devices, float32 on others."""

    def precision_on(self, device: torch.device | str) -> Precision:
        """Return the mixed precision of the model on a device.

        Args:
            device: Device of the model.
        """
        trained = "no" if self.train is None else self.train.precision
        return inference_precision(self.precision, trained, device)

    def with_sampling(self, **changes: Any) -> "ClassGenerator":
        """Change settings of the sampler.

        Args:
            changes: Fields of `SamplingConfig` to replace.

        Returns:
            A copy that shares the model.
        """
        return replace(self, sampling=replace(self.sampling, **changes))

    def describe(self) -> dict[str, Any]:
        """Describe model and sampler.

        Returns:
            JSON values that are equal only if the outputs are equal.
        """
        return {
            "model": self.config.to_dict(),
            "weights": self.weights,
            "train": None if self.train is None else to_json(self.train),
            "sampling": asdict(self.sampling),
            "scaling": self.scaling,
        }


def load_class_generator(
    path: Path, options: RunOptions | None = None, *, num_heads: int | None = None
) -> ClassGenerator:
    """Load a class-conditional generator.

    Models without a training configuration, such as released `.pt` files, are sampled as DiT is:
    by DDPM with 1,000 steps.

    Args:
        path: Run folder, checkpoint, converted model, or a `.pt` file of the DiT or SiT
            repositories.
        options: Changes to the default settings.
        num_heads: Number of heads of a `.pt` file whose depth and width are not a standard size.

    Returns:
        The generator, with its encoding folded and its model on the CPU.

    Raises:
        ValueError: If there is no checkpoint, its model is not class-conditional, its training
            configuration is missing or damaged, or an option does not fit the model.
    """
    options = options or RunOptions()
    train = find_train_config(path)
    _check_class_conditional(path, train)
    assert train is None or isinstance(train, TrainConfig)
    model = DiT.from_checkpoint(path, weights=options.weights, num_heads=num_heads)
    if train is None and is_training_checkpoint(path):
        raise ValueError(
            f"{path} is a checkpoint without its run, whose {CONFIG_FILE} says how to sample it: "
            f"copy that file to {path / TRAIN_FILE}"
        )
    config, weights = model.config, weights_digest(model)
    count = sum(parameter.numel() for parameter in model.parameters())
    shape, scaling = _output_shape(model, options)
    fold(model)
    if train is None:
        process: Process = GaussianDiffusion(
            GaussianConfig(learned_variance=config.learned_variance)
        )
        sampling = SamplingConfig()
    else:
        process, sampling = train.create_process(), train.sampling
    generator = ClassGenerator(
        model,
        config,
        count,
        process,
        sampling,
        train,
        weights,
        shape,
        scaling,
        options.precision,
    )
    return generator.with_sampling(**options.sampling())


def find_train_config(path: Path) -> RunConfig | None:
    """Find the training configuration of a model.

    Args:
        path: Run folder, a checkpoint within one, a converted model, or a `.pt` file.

    Returns:
        The configuration; None for a model that does not belong to a run and has no `train.json`.

    Raises:
        ValueError: If the configuration is damaged, or missing from a run.
    """
    run = _run_of(path)
    if run is not None:
        return _read_train_config(run / CONFIG_FILE)
    if (path / TRAIN_FILE).is_file():
        return _read_train_config(path / TRAIN_FILE)
    # A run without checkpoints; models have a file of the same name, which names no recipe.
    file = path / CONFIG_FILE
    if file.is_file() and "recipe" in read_json(file, dict[str, Any]):
        return _read_train_config(file)
    return None


def load_decoder(path: str | None, in_channels: int, device: torch.device | str) -> Vae | None:
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


def describe_decoder(vae: Vae | None) -> dict[str, Any] | None:
    """Describe the VAE that decodes latents.

    Args:
        vae: The VAE, or None.

    Returns:
        JSON values that are equal only if the decoded images are equal; None without a VAE.
    """
    if vae is None:
        return None
    return {
        "weights": weights_digest(vae),
        "scaling_factor": scaling_factor(vae),
        "shift_factor": shift_factor(vae),
    }


def scale_to_size(
    model: nn.Module, options: RunOptions, trained: tuple[int, int] | None, patch: int
) -> tuple[tuple[int, int] | None, str | None]:
    """Scale a model's encoding to the size of the samples.

    Args:
        model: Model, which is changed in place.
        options: Height, width and scaling method.
        trained: Height and width of the training; None if unknown.
        patch: Height and width of a patch.

    Returns:
        Height and width of the samples, None if they are neither trained nor given; and the
        scaling method, None at the size of the training.

    Raises:
        ValueError: If a size is not a multiple of the patch size, or the encoding does not support
            the method.
    """
    default = trained or (None, None)
    height, width = options.height or default[0], options.width or default[1]
    if height is None or width is None:
        return None, None
    size = (height, width)
    if any(side % patch for side in size):
        raise ValueError(
            f"height {height} and width {width} must be multiples of the patch size {patch}"
        )
    if size == trained:
        return size, None
    # Loaded models extrapolate, which needs nothing that could be scaled.
    if trained is not None and options.scaling != "extrapolate":
        grids = [[side // patch for side in sides] for sides in (size, trained)]
        set_scaling(model, options.scaling, sizes=grids[0], train_sizes=grids[1])
    return size, options.scaling


def _check_class_conditional(path: Path, train: RunConfig | None) -> None:
    if isinstance(train, TextToImageConfig):
        raise ValueError(
            f"{path} was trained by {train.recipe}, which generates images from prompts: pass "
            f"--prompt, --prompts, --geneval, --dpg or --scenes-prompts"
        )
    if isinstance(train, FluxLoraConfig):
        raise ValueError(
            f"{path} contains adapters of a pipeline: generate images by `harope sample "
            f"{train.model.pretrained} --lora RUN/adapters --encoding RUN/adapters --prompts FILE`"
        )
    if train is not None and not isinstance(train, TrainConfig):
        raise ValueError(
            f"{path} was trained by {train.recipe}, whose model does not generate images: pass a "
            f"run of a DiT recipe, such as scenes-dit"
        )


def _output_shape(
    model: DiT, options: RunOptions
) -> tuple[tuple[int, int, int] | None, str | None]:
    config = model.config
    size, scaling = scale_to_size(model, options, config.input_size, config.patch_size)
    return None if size is None else (config.in_channels, *size), scaling


def _run_of(path: Path) -> Path | None:
    """Return the run that a path is or belongs to, if any."""
    if list_checkpoints(path):
        return path
    is_inside = is_training_checkpoint(path) and path.resolve().parent.name == "checkpoints"
    return path.resolve().parent.parent if is_inside else None


def _read_train_config(path: Path) -> RunConfig:
    if not path.is_file():
        raise ValueError(
            f"{path} is missing, which says how the run was trained: restore it, or sample a model "
            f"of `harope convert`"
        )
    values = read_json(path, dict[str, Any])
    try:
        return from_json(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
