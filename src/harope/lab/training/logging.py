"""Logging of a run: metrics.jsonl, trackers and a progress bar."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harope._utils.atomic import write_text_atomic
from harope._utils.json_files import parse_json
from harope._utils.progress import Progress
from harope._utils.sharding import full_tensor
from harope._utils.text_files import read_text
from harope.lab.training.checkpoint import advise_on_divergence
from harope.lab.training.task import RunConfig, captions_path, grid_path
from harope.lab.training.trackers import Report, Trackers
from harope.rope.basis import Basis

METRICS_FILE = "metrics.jsonl"

T = TypeVar("T")


class TimedIterator(Iterator[T]):
    """Iterator that measures the time that is spent waiting for it.

    Args:
        iterator: Iterator to read from.
    """

    def __init__(self, iterator: Iterator[T]) -> None:
        self._iterator = iterator
        self.seconds = 0.0
        """Time in `next` so far, in seconds."""

    def __next__(self) -> T:
        start = time.perf_counter()
        try:
            return next(self._iterator)
        finally:
            self.seconds += time.perf_counter() - start


class MetricsLogger:
    """Collects the losses of steps on the device, and logs their means.

    Args:
        accelerator: The processes; only the main process writes.
        config: Configuration of the training.
        model: The model, whose singular values are logged.
        settings: Configuration by path of the field, for trackers.
        run: Run folder. Lines of metrics.jsonl after `step` are removed.
        step: Number of steps done before.
        seconds: Training time before, in seconds.
        title: What is trained, shown with the progress; the name of the encoding.
        show: Whether to show the progress bar.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        config: RunConfig,
        model: nn.Module,
        settings: Mapping[str, Any],
        run: Path,
        step: int,
        seconds: float,
        *,
        title: str,
        show: bool,
    ) -> None:
        self.config, self.model, self.run = config, model, run
        self._pending: list[tuple[int, dict[str, Tensor], Tensor | None]] = []
        self._last_write = (step, seconds, 0.0)
        self._accelerator = accelerator
        self._trackers = Trackers(config.report_to, run, step, settings, notice)
        if accelerator.is_main_process:
            self._remove_lines_after(step)
            if step < config.steps:
                self._trackers.start()
        self._bar = Progress(config.steps, f"training steps ({title})", done=step, quiet=not show)

    def add(self, step: int, losses: dict[str, Tensor], norm: Tensor | None) -> None:
        """Record a finished step.

        Args:
            step: Number of steps done.
            losses: Mean losses of this process, scalars on the device.
            norm: Norm of the gradient, if it was computed.
        """
        self._pending.append((step, losses, norm))
        self._bar.update()

    def write(self, step: int, seconds: float, waited: float) -> None:
        """Log the means, over steps and processes, since the last call.

        Args:
            step: Number of steps done.
            seconds: Training time so far, in seconds.
            waited: Time that this process has waited for batches so far, in seconds.

        Raises:
            ValueError: If the loss of a step was not finite; names the first such step.
        """
        names = list(self._pending[0][1])
        stacked = torch.stack([torch.stack([s[1][name] for name in names]) for s in self._pending])
        rows = self._accelerator.reduce(stacked, "mean").tolist()
        self._check_finite(rows)
        line: dict[str, Any] = {"step": step, "images": step * self.config.batch_size}
        means = torch.tensor(rows, dtype=torch.float64).mean(dim=0).tolist()
        line |= dict(zip(names, means, strict=True))
        line["lr"] = self.config.optimizer.rate(step - 1, self.config.steps)
        if self._pending[-1][2] is not None:
            line["grad_norm"] = float(self._pending[-1][2])
        last_step, last_seconds, last_waited = self._last_write
        images, passed = (step - last_step) * self.config.batch_size, seconds - last_seconds
        line["images_per_second"] = images / max(passed, 1e-9)
        line["data_wait"] = min((waited - last_waited) / max(passed, 1e-9), 1.0)
        line["memory_gib"] = memory_in_use(self._accelerator.device) / 2**30
        line |= singular_value_range(self.model)
        line["seconds"] = seconds
        self._pending, self._last_write = [], (step, seconds, waited)
        if self._accelerator.is_main_process:
            self._record(line)

    def add_report(self, step: int, metrics: dict[str, Any]) -> None:
        """Log a report: metrics into the line of its step in metrics.jsonl, images to trackers.

        Args:
            step: Number of steps done, not below that of the last line.
            metrics: Values for JSON by name.
        """
        if not self._accelerator.is_main_process:
            return
        if metrics:
            lines = read_metrics(self.run)
            # A run whose metrics.jsonl was removed has no line of the step.
            last = lines.pop() if lines and lines[-1]["step"] == step else {"step": step}
            self._rewrite([*lines, last | metrics])
        grid, captions = grid_path(self.run, step), captions_path(self.run)
        images = {"samples": grid} if grid.is_file() else {}
        texts = {"captions": read_text(captions)} if images and captions.is_file() else {}
        if metrics or images:
            numbers = {name: v for name, v in metrics.items() if isinstance(v, (int, float))}
            self._trackers.log_report(Report(scalars=numbers, images=images, texts=texts), step)

    def close(self) -> None:
        """Close the progress bar and the trackers."""
        self._bar.close()
        self._trackers.close()

    def _check_finite(self, rows: list[list[float]]) -> None:
        for (step, _, _), row in zip(self._pending, rows, strict=True):
            if not math.isfinite(row[0]):
                raise ValueError(
                    f"the loss is {row[0]} at step {step}: {advise_on_divergence(self.run)} (the "
                    f"last checkpoint is kept)"
                )

    def _record(self, line: dict[str, Any]) -> None:
        with (self.run / METRICS_FILE).open("a") as file:
            file.write(json.dumps(line) + "\n")
        values = {name: value for name, value in line.items() if name != "step"}
        self._trackers.log(values, line["step"])
        self._bar.note(f"loss {line['loss']:.4f}, {_speed(line['images_per_second'])}")

    def _remove_lines_after(self, step: int) -> None:
        """Remove the lines of steps that a resumed run will repeat."""
        lines = read_metrics(self.run)
        text = self._text([line for line in lines if line["step"] <= step])
        path = self.run / METRICS_FILE
        if path.exists() and path.read_bytes() != text.encode():
            write_text_atomic(path, text)

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        write_text_atomic(self.run / METRICS_FILE, self._text(lines))

    @staticmethod
    def _text(lines: list[dict[str, Any]]) -> str:
        return "".join(json.dumps(line) + "\n" for line in lines)


def _speed(images_per_second: float) -> str:
    """Format a speed; slow trainings by the seconds of an image."""
    if images_per_second >= 1:
        return f"{images_per_second:.0f} images/s"
    return f"{1 / max(images_per_second, 1e-9):.1f} s/image"


def memory_in_use(device: torch.device) -> int:
    """Measure the memory of this process.

    Args:
        device: Device of the training.

    Returns:
        On CUDA devices the peak of the memory that tensors took, elsewhere the resident memory of
        the process, in bytes.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


@torch.no_grad()
def singular_value_range(model: nn.Module) -> dict[str, float]:
    """Return the smallest and the largest singular value of the matrices A_q of a model.

    Args:
        model: Any model. If it is sharded, every process must call this function.

    Returns:
        `singular_values_min` and `singular_values_max` over all layers and heads; nothing if no
        encoding has singular values as parameters.
    """
    bases = [part for part in model.modules() if isinstance(part, Basis)]
    values = [
        full_tensor(value).flatten()
        for basis in bases
        if (value := basis.singular_values()) is not None
    ]
    if not values:
        return {}
    low, high = torch.stack(torch.aminmax(torch.cat(values))).tolist()
    return {"singular_values_min": low, "singular_values_max": high}


def notice(text: str) -> None:
    """Print a line for the user to stderr, also where the progress bar is hidden.

    Args:
        text: The line.
    """
    print(f"harope: {text}", file=sys.stderr, flush=True)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read a run's metrics.jsonl.

    A last line that was written only partly, by a process that was killed, is left out.

    Args:
        run: Run folder.

    Returns:
        The lines in order of their steps; none if there is no file.

    Raises:
        ValueError: If a line is not JSON or has no step, naming it.
    """
    path = run / METRICS_FILE
    if not path.exists():
        return []
    *complete, last = path.read_bytes().split(b"\n")
    lines = [_parse_line(line, f"{path} line {n}") for n, line in enumerate(complete, 1)]
    with suppress(ValueError):
        lines.append(_parse_line(last, path))
    return lines


def has_metric(run: Path, step: int, name: str) -> bool:
    """Tell whether metrics.jsonl has a metric of a step.

    Args:
        run: Run folder.
        step: Number of steps done.
        name: Name of the metric.

    Returns:
        Whether it is in the line of that step.
    """
    return any(name in line for line in read_metrics(run) if line["step"] == step)


def _parse_line(line: bytes, source: object) -> dict[str, Any]:
    values = parse_json(line, source)
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        raise ValueError(f"{source} is not a line of metrics with a step: remove it")
    return values
