"""What is measured of a finished run: numbers by name, each with a direction."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from harope._utils.distributed import this_process
from harope.lab.data.dataset import loader
from harope.lab.experiments.compare.heads import ablation_losses, head_statistics
from harope.lab.experiments.compare.sample_scores import DrawnConfig, drawn_scores
from harope.lab.metrics.accuracy import top_k_accuracy
from harope.lab.training.checkpoint import load_checkpoint
from harope.lab.training.config import RunConfig
from harope.lab.training.ema import EMA
from harope.lab.training.logging import read_metrics
from harope.lab.training.registry import create_task
from harope.lab.training.task import Task, TensorBatch
from harope.lab.training.tasks.class_conditional import Denoising
from harope.lab.training.tasks.classification import Classification
from harope.models.checkpoint_files import list_checkpoints

NEXT_BATCHES, NEXT_IMAGES = 32, 2048
"""Draws of the loss of the averaged weights: so many batches, but no more images than that."""
HEAD_IMAGES = 64
"""Images whose attention is measured."""
ABLATION_IMAGES = 512
"""Draws of the loss with replaced bases: fewer, as it is computed four times."""
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
    """Direction and title of a measure; all but losses and Fréchet distances are shares that
    should be large.
    """
    if name.startswith(("FID", "FD-")):
        return Measure(name, percent=False, lower_is_better=True)
    return _LOSSES.get(name) or Measure(name.replace("_", " "))


def measure_run(
    run: Path, config: RunConfig, drawn: DrawnConfig, out: Path, kept: Path
) -> dict[str, float]:
    """All measures of a finished run.

    next_loss: of the averaged weights, on the draws that training would have seen next, with their
    noise; for data without end these are new images. training_loss: mean over the last tenth of the
    steps. Then what the task reports (top1, top5), and scores of samples, see `drawn_scores`.
    """
    with finished_task(run, config) as task:
        found = {"next_loss": next_loss(task)}
    found["training_loss"] = _training_loss(run, config)
    last = read_metrics(run)[-1]
    found |= {name: last[name] for name in ("top1", "top5") if name in last}
    return found | drawn_scores(run, config, drawn, out, kept)


def _training_loss(run: Path, config: RunConfig) -> float:
    """Lines of metrics weighted by the steps that they average over."""
    lines, begins = read_metrics(run), config.steps * (1 - LAST_SHARE)
    steps = [0, *(line["step"] for line in lines)]
    spans = [now - before for before, now in pairwise(steps)]
    last = [
        (n, line["loss"]) for n, line in zip(spans, lines, strict=True) if line["step"] > begins
    ]
    return math.fsum(n * loss for n, loss in last) / sum(n for n, _ in last)


@contextmanager
def finished_task(run: Path, config: RunConfig) -> Iterator[Task]:
    """The task of a finished run; inside, its model is in eval mode with the averaged weights."""
    task = create_task(config, this_process().device)
    tensors, state = load_checkpoint(list_checkpoints(run)[-1])
    task.load_state_dict(tensors["model"])
    ema = EMA(task.model, config.ema_decay)
    ema.load_state_dict(tensors["ema"], state["ema_updates"])
    task.model.eval()
    with ema.swapped():
        yield task


@torch.no_grad()
def next_loss(task: Task, images: int = NEXT_IMAGES) -> float:
    """Mean loss on the draws that training would have seen next, the same at every call.

    Args:
        task: with its model in eval mode.
        images: draws, rounded up to whole batches of the training, of which there are at most
            `NEXT_BATCHES`.
    """
    config, device = task.config, this_process().device
    part = config.batch_size // config.accumulation
    batches = loader(task.source, batch_size=part, start_step=config.steps * config.accumulation)
    losses = []
    for step in range(min(NEXT_BATCHES, math.ceil(images / part))):
        batch = tuple(values.to(device) for values in next(batches))
        losses.append(task.losses(task.model, batch, config.steps + step, 0)["loss"].double())
    return float(torch.cat(losses).mean())


def measure_heads(run: Path, config: RunConfig) -> dict[str, Any]:
    """What the heads of a finished run learned, with its averaged weights.

    Returns:
        "heads": see `head_statistics`; attention is that of `HEAD_IMAGES` new or held-out images.
        "ablations": by measure its value as "learned" and with every replacement of
        `replaced_basis`, all on the same draws: next_loss on `ABLATION_IMAGES` of them, and top1 of
        a classifier on as many held-out images as `NEXT_IMAGES`. Empty without a learned basis.
    """
    with finished_task(run, config) as task:
        heads = head_statistics(task, _head_images(task))
        evaluations: dict[str, Callable[[], float]] = {
            "next_loss": lambda: next_loss(task, ABLATION_IMAGES)
        }
        if isinstance(task, Classification):
            evaluations["top1"] = partial(_top1, task)
        ablations = {}
        for name, evaluate in evaluations.items():
            replaced = ablation_losses(task.model, evaluate)
            if replaced:
                ablations[name] = {"learned": evaluate(), **replaced}
    return {"heads": heads, "ablations": ablations}


def _head_images(task: Task) -> TensorBatch | None:
    """A batch to measure attention on; None for tasks of which it is not measured."""
    if isinstance(task, Classification):
        batch = task.held_out.items(_held_out_places(task, HEAD_IMAGES))
    elif isinstance(task, Denoising):
        first = task.config.steps * task.config.batch_size
        batch = task.source.draw(range(first, first + HEAD_IMAGES))
    else:
        return None
    device = this_process().device
    return tuple(values.to(device) for values in batch)


def _top1(task: Classification) -> float:
    """Share of held-out images whose class comes first."""
    places, size = _held_out_places(task, NEXT_IMAGES), task.config.batch_size
    parts = (places[first : first + size] for first in range(0, len(places), size))
    return top_k_accuracy(task.model, map(task.held_out.items, parts), ks=(1,))[1].rate


def _held_out_places(task: Classification, count: int) -> list[int]:
    """So many, spread evenly, as images may be sorted by class; all where there are fewer."""
    count = min(count, len(task.held_out))
    return [place * len(task.held_out) // count for place in range(count)]
