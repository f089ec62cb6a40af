"""What is measured of a finished run: numbers by name, each with a direction."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from harope.data.captioned_scenes import CaptionedScenesData
from harope.data.scenes import ScenesData
from harope.data.source import loader
from harope.evaluation.scenes import Scores
from harope.generation.folder import FolderPlan, sample_folder
from harope.generation.loading import load_generator
from harope.generation.prompt_folder import PlainLayout, PromptPlan, sample_prompts
from harope.generation.scenes import scene_labels, scenes_requests
from harope.generation.text import load_text_generator
from harope.report.scenes import folder_scores
from harope.training.checkpoint import list_checkpoints, load_checkpoint
from harope.training.config import RunConfig, TrainConfig
from harope.training.ema import EMA
from harope.training.progress import read_metrics
from harope.training.registry import create_task
from harope.training.text_to_image import TextToImageConfig

NEXT_BATCHES, NEXT_IMAGES = 32, 2048
"""Draws of the loss of the averaged weights: so many batches, but no more images than that."""
LAST_SHARE = 0.1
"""Of the steps, whose training loss is averaged."""


@dataclass(frozen=True)
class Measure:
    """How to read a number."""

    title: str
    percent: bool = True
    """Whether it is a share, shown in per cent."""
    lower_is_better: bool = False

    def shown(self, value: float) -> float:
        """In the unit of tables."""
        return 100 * value if self.percent else value


_LOSSES = {
    "next_loss": Measure("loss, averaged weights", percent=False, lower_is_better=True),
    "training_loss": Measure("training loss, last tenth", percent=False, lower_is_better=True),
}


def measure_of(name: str) -> Measure:
    """Direction and title of a measure; all but losses are shares that should be large."""
    return _LOSSES.get(name) or Measure(name.replace("_", " "))


def measure_run(run: Path, config: RunConfig, samples: int, samples_out: Path) -> dict[str, float]:
    """All measures of a finished run.

    next_loss: of the averaged weights, on the draws that training would have seen next, with their
    noise; for data without end these are new images. training_loss: mean over the last tenth of the
    steps. Then what the task reports (top1, top5), and scores of samples where the data are
    scenes, which a reader reads back.
    """
    found = {"next_loss": _next_loss(run, config), "training_loss": _training_loss(run, config)}
    last = read_metrics(run)[-1]
    found |= {name: last[name] for name in ("top1", "top5") if name in last}
    scores = _sample_scores(run, config, samples, samples_out)
    return found | {name: score.rate for name, score in scores.items()}


def is_scored(config: RunConfig) -> bool:
    """Whether samples of a run are drawn and scored."""
    data: Any = config.data  # type: ignore[attr-defined]
    return isinstance(data, ScenesData | CaptionedScenesData)


def _training_loss(run: Path, config: RunConfig) -> float:
    """Lines of metrics weighted by the steps that they average over."""
    lines, begins = read_metrics(run), config.steps * (1 - LAST_SHARE)
    steps = [0, *(line["step"] for line in lines)]
    spans = [now - before for before, now in pairwise(steps)]
    last = [
        (n, line["loss"]) for n, line in zip(spans, lines, strict=True) if line["step"] > begins
    ]
    return math.fsum(n * loss for n, loss in last) / sum(n for n, _ in last)


@torch.no_grad()
def _next_loss(run: Path, config: RunConfig) -> float:
    device = PartialState().device
    task = create_task(config, device)
    tensors, state = load_checkpoint(list_checkpoints(run)[-1])
    task.load_state_dict(tensors["model"])
    ema = EMA(task.model, config.ema_decay)
    ema.load_state_dict(tensors["ema"], state["ema_updates"])
    task.model.eval()
    part = config.batch_size // config.accumulation
    batches = loader(task.source, batch_size=part, start_step=config.steps * config.accumulation)
    losses = []
    with ema.swapped():
        for step in range(min(NEXT_BATCHES, math.ceil(NEXT_IMAGES / part))):
            batch = tuple(values.to(device) for values in next(batches))
            losses.append(task.losses(task.model, batch, config.steps + step, 0)["loss"].double())
    return float(torch.cat(losses).mean())


def _sample_scores(run: Path, config: RunConfig, samples: int, out: Path) -> Scores:
    device = PartialState().device
    if isinstance(config, TrainConfig) and isinstance(config.data, ScenesData):
        size = config.data.image_size
        labels = scene_labels(rounds=math.ceil(samples / 60))[:samples]
        plan = FolderPlan(shape=(3, size, size), labels=labels, count=samples)
        sample_folder(load_generator(run), plan, out, device=device, quiet=True)
        return folder_scores(out)["samples"]
    if isinstance(config, TextToImageConfig) and isinstance(config.data, CaptionedScenesData):
        generator = load_text_generator(run, device=device)
        requests = scenes_requests(max(1, samples // 6))
        prompts = PromptPlan(requests=requests, samples_per_prompt=1, batch_size=64)
        sample_prompts(generator.draw, prompts, PlainLayout(), out, made_by=generator.describe())
        return folder_scores(out)["samples"]
    return {}
