"""What is measured of a finished run: numbers by name, each with a direction."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from harope.compare.drawn import DrawnConfig, drawn_scores
from harope.data.source import loader
from harope.generation.processes import this_process
from harope.training.checkpoint import list_checkpoints, load_checkpoint
from harope.training.config import RunConfig
from harope.training.ema import EMA
from harope.training.progress import read_metrics
from harope.training.registry import create_task

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
    found = {"next_loss": _next_loss(run, config), "training_loss": _training_loss(run, config)}
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


@torch.no_grad()
def _next_loss(run: Path, config: RunConfig) -> float:
    device = this_process().device
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
