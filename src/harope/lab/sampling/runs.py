"""A checkpoint, and the process and sampler that its training used."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harope.diffusion import GaussianConfig, GaussianDiffusion, Process
from harope.diffusion.generate import SamplingConfig
from harope.lab.training.config import RunConfig, TrainConfig
from harope.lab.training.run_dir import CONFIG_FILE
from harope.lab.training.serialization import from_json
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.dit import DiT
from harope.models.dit.config import DiTConfig
from harope.models.dit.fold import fold

TRAIN_FILE = "train.json"


@dataclass(frozen=True)
class ClassGenerator:
    """What it takes to draw samples."""

    model: DiT
    """Folded: it draws the same samples at the price of plain rotary encodings."""
    config: DiTConfig
    """The model's configuration before that."""
    parameters: int
    """Their number before that."""
    process: Process
    sampling: SamplingConfig
    train: TrainConfig | None
    """The training's configuration, where the checkpoint has one."""

    def with_sampling(self, **changes: Any) -> "ClassGenerator":
        """The same with fields of SamplingConfig replaced."""
        return replace(self, sampling=replace(self.sampling, **changes))


def load_class_generator(
    path: Path, *, weights: str = "ema", num_heads: int | None = None
) -> ClassGenerator:
    """Load a run, a checkpoint, a converted model or a released `.pt` of the DiT family.

    Without a training configuration the process is the family's: DDPM of 1,000 steps.
    Raises ValueError when there is no checkpoint, or one of a model that does not generate.
    """
    train = find_train_config(path)
    if isinstance(train, TextToImageConfig):
        raise ValueError(
            f"{path} was trained by {train.recipe}, which draws from prompts: say which with "
            f"--prompts, --geneval, --dpg or --scenes-prompts"
        )
    if isinstance(train, FluxLoraConfig):
        raise ValueError(
            f"{path} holds what was added to a pipeline: draw prompts by `harope sample "
            f"{train.model.pretrained} --lora RUN/adapters --encoding RUN/adapters --prompts FILE`"
        )
    if train is not None and not isinstance(train, TrainConfig):
        raise ValueError(
            f"{path} was trained by {train.recipe}, whose model draws no samples: pass a run of a "
            f"DiT, such as scenes-dit"
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
    """The configuration beside a converted model, of a run, or of the run a checkpoint is in."""
    for candidate in (path / TRAIN_FILE, path / CONFIG_FILE, path.parent.parent / CONFIG_FILE):
        if candidate.is_file():
            values = json.loads(candidate.read_text())
            if "recipe" in values:
                return from_json(values)
    return None
