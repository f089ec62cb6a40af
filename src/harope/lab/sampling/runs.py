"""Loading a class-conditional checkpoint with the diffusion process and sampler of its training."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harope._utils.json_files import read_json
from harope.diffusion import GaussianConfig, GaussianDiffusion, Process
from harope.diffusion.generate import SamplingConfig
from harope.lab.training.run_dir import CONFIG_FILE
from harope.lab.training.serialization import from_json
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.dit import DiT
from harope.models.dit.config import DiTConfig
from harope.models.dit.fold import fold

TRAIN_FILE = "train.json"


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

    def with_sampling(self, **changes: Any) -> "ClassGenerator":
        """Return a copy with fields of `SamplingConfig` replaced."""
        return replace(self, sampling=replace(self.sampling, **changes))


def load_class_generator(
    path: Path, *, weights: str = "ema", num_heads: int | None = None
) -> ClassGenerator:
    """Load a class-conditional generator.

    Without a training configuration, the diffusion process is DiT's: DDPM with 1,000 steps.

    Args:
        path: Run folder, checkpoint, converted model, or a `.pt` file of the DiT or SiT
            repositories.
        weights: Weights to load, "ema" or "model".
        num_heads: Number of heads of a `.pt` file whose depth and width are not a standard size.

    Raises:
        ValueError: If there is no checkpoint, or its model is not class-conditional.
    """
    train = find_train_config(path)
    if isinstance(train, TextToImageConfig):
        raise ValueError(
            f"{path} was trained by {train.recipe}, which generates images from prompts: pass "
            f"--prompts, --geneval, --dpg or --scenes-prompts"
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
    model = DiT.from_checkpoint(path, weights=weights, num_heads=num_heads)
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    fold(model)
    if train is not None:
        return ClassGenerator(model, config, count, train.create_process(), train.sampling, train)
    process = GaussianDiffusion(GaussianConfig(learned_variance=config.learned_variance))
    return ClassGenerator(model, config, count, process, SamplingConfig(), None)


def find_train_config(path: Path) -> RunConfig | None:
    """Find the training configuration of a model.

    Args:
        path: Converted model, run folder, or a checkpoint within one.

    Returns:
        The configuration, or None if there is none.
    """
    for candidate in (path / TRAIN_FILE, path / CONFIG_FILE, path.parent.parent / CONFIG_FILE):
        if candidate.is_file():
            values = read_json(candidate, dict[str, Any])
            if "recipe" in values:
                return from_json(values)
    return None
