"""Metrics of a finished run: their values, titles and directions."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from harope._utils.distributed import this_process
from harope.lab.data.dataset import loader
from harope.lab.experiments.compare.heads import ablation_losses, head_statistics
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig, sample_scores
from harope.lab.metrics.accuracy import top_k_accuracy
from harope.lab.training.checkpoint import load_checkpoint
from harope.lab.training.logging import read_metrics
from harope.lab.training.optim import EMA
from harope.lab.training.task import RunConfig, Task, TensorBatch
from harope.lab.training.tasks import create_task
from harope.lab.training.tasks.class_conditional import ClassConditional
from harope.lab.training.tasks.classification import Classification
from harope.lab.training.validation import mean_loss
from harope.models.checkpoint_files import list_checkpoints

NEXT_BATCHES, NEXT_IMAGES = 32, 2048
"""The EMA loss is evaluated on at most `NEXT_BATCHES` batches and about `NEXT_IMAGES` images."""
HEAD_IMAGES = 64
"""Number of images on which attention is measured."""
ABLATION_IMAGES = 512
"""Number of images for the loss with replaced bases: fewer, since it is evaluated four times."""
LAST_FRACTION = 0.1
"""Fraction of final steps over which the training loss is averaged."""


@dataclass(frozen=True)
class RunMetric:
    """How to display a metric of a run, and which direction is better."""

    title: str
    """Title in tables and plots."""
    percent: bool = True
    """Whether it is a proportion, which tables show in per cent."""
    lower_is_better: bool = False
    """Whether smaller values are better."""

    def to_display(self, value: float) -> float:
        """Convert a value to the unit of tables.

        Args:
            value: Value as it is stored in `measures.json`.

        Returns:
            Value in per cent if the metric is a proportion, otherwise unchanged.
        """
        return 100 * value if self.percent else value


_LOSSES = {
    "next_loss": RunMetric("EMA loss", percent=False, lower_is_better=True),
    "training_loss": RunMetric("training loss, last tenth", percent=False, lower_is_better=True),
}


def run_metric(name: str) -> RunMetric:
    """Return the title and direction of a metric.

    Losses and Fréchet distances are better when smaller; every other metric is a proportion that
    is better when larger.

    Args:
        name: Name of the metric in `measures.json`.

    Returns:
        The metric.
    """
    if name.startswith(("FID", "FD-")):
        return RunMetric(name, percent=False, lower_is_better=True)
    return _LOSSES.get(name) or RunMetric(name.replace("_", " "))


def measure_run(
    run: Path, config: RunConfig, scoring: SampleScoreConfig, out: Path, reference_cache: Path
) -> dict[str, float]:
    """Compute all metrics of a finished run.

    Args:
        run: Run folder.
        config: Configuration of the run.
        scoring: How to sample and score the run.
        out: Folder for the samples.
        reference_cache: Folder in which the features of the reference are cached.

    Returns:
        By name: `next_loss`, the EMA loss on the batches and the noise that training would have
        used next (new images, if the dataset is infinite); `training_loss`, the mean over the last
        tenth of the steps; `top1` and `top5`, if the task reports them; and the sample scores, see
        `sample_scores`.
    """
    with finished_task(run, config) as task:
        metrics = {"next_loss": next_loss(task), "training_loss": _training_loss(run, config)}
        report = read_metrics(run)[-1]
        if isinstance(task, Classification) and "top1" not in report:
            # The training was killed after its last checkpoint, before its report.
            report = task.report(run, config.steps)
    metrics |= {name: report[name] for name in ("top1", "top5") if name in report}
    return metrics | sample_scores(run, config, scoring, out, reference_cache)


def _training_loss(run: Path, config: RunConfig) -> float:
    """Average the last logged losses, each weighted by the number of steps that it covers."""
    lines, start = read_metrics(run), config.steps * (1 - LAST_FRACTION)
    steps = [0, *(line["step"] for line in lines)]
    spans = [now - before for before, now in pairwise(steps)]
    last = [(n, line["loss"]) for n, line in zip(spans, lines, strict=True) if line["step"] > start]
    return math.fsum(n * loss for n, loss in last) / sum(n for n, _ in last)


@contextmanager
def finished_task(run: Path, config: RunConfig) -> Iterator[Task]:
    """Load the task of a finished run, with its model in eval mode and the EMA weights.

    Args:
        run: Run folder.
        config: Configuration of the run.

    Yields:
        The task; its model has the EMA weights only inside the context.
    """
    task = create_task(config, this_process().device)
    tensors, state = load_checkpoint(list_checkpoints(run)[-1])
    task.load_state_dict(tensors["model"])
    ema = EMA(task.model, config.ema_decay)
    ema.load_state_dict(tensors["ema"], state.ema_updates)
    task.model.eval()
    with ema.swapped():
        yield task


def next_loss(task: Task, images: int = NEXT_IMAGES) -> float:
    """Return the mean loss on the batches and the noise that training would have used next.

    Every call evaluates the same images with the same noise and times.

    Args:
        task: Task with its model in eval mode.
        images: Number of images, rounded up to a multiple of the training's micro-batch; at most
            `NEXT_BATCHES` batches are used.

    Returns:
        Mean over the images.
    """
    config, device = task.config, this_process().device
    size = config.batch_size // config.accumulation
    batches = loader(task.source, batch_size=size, start_step=config.steps * config.accumulation)
    steps = range(config.steps, config.steps + min(NEXT_BATCHES, math.ceil(images / size)))

    def losses(step: int, batch: TensorBatch) -> Tensor:
        batch = tuple(values.to(device) for values in batch)
        return task.losses(task.model, batch, step, 0)["loss"]

    return mean_loss(task.model, map(losses, steps, batches))


def measure_heads(run: Path, config: RunConfig) -> dict[str, Any]:
    """Compute head statistics and ablations of a finished run with its EMA weights.

    Args:
        run: Run folder.
        config: Configuration of the run.

    Returns:
        `heads`: see `head_statistics`; attention is measured on `HEAD_IMAGES` new or held-out
        images. `ablations`: by metric, its value with the `learned` basis and with every
        replacement of `replaced_basis`, evaluated on the same images and noise: `next_loss` on
        `ABLATION_IMAGES` images, and for classifiers `top1` on `NEXT_IMAGES` held-out images. Empty
        without a learned basis.
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
    """Return a batch on which to measure attention, or None for tasks that do not support it."""
    if isinstance(task, Classification):
        batch = task.held_out.items(_held_out_indices(task, HEAD_IMAGES))
    elif isinstance(task, ClassConditional):
        first = task.config.steps * task.config.batch_size
        batch = task.source.samples(range(first, first + HEAD_IMAGES))
    else:
        return None
    device = this_process().device
    return tuple(values.to(device) for values in batch)


def _top1(task: Classification) -> float:
    """Return the top-1 accuracy on held-out images."""
    indices, size = _held_out_indices(task, NEXT_IMAGES), task.config.batch_size
    parts = (indices[first : first + size] for first in range(0, len(indices), size))
    return top_k_accuracy(task.model, map(task.held_out.items, parts), ks=(1,))[1].rate


def _held_out_indices(task: Classification, count: int) -> list[int]:
    """Return at most `count` indices, evenly spread because images may be sorted by class."""
    count = min(count, len(task.held_out))
    return [index * len(task.held_out) // count for index in range(count)]
