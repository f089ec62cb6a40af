"""Logging of a run: metrics.jsonl, TensorBoard and a progress bar."""

import json
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from harope._utils.atomic import write_text_atomic
from harope._utils.json_files import parse_json
from harope._utils.progress import Progress
from harope.lab.training.checkpoint import advise_on_divergence
from harope.lab.training.task import RunConfig

METRICS_FILE = "metrics.jsonl"


class MetricsLogger:
    """Collects the losses of steps on the device, and logs their means.

    Args:
        accelerator: The processes; only the main process writes.
        config: Configuration of the training.
        run: Run folder. Lines of metrics.jsonl after `step` are removed.
        step: Number of steps done before.
        seconds: Training time before, in seconds.
        title: Label of the progress bar.
        show: Whether to show the progress bar.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        config: RunConfig,
        run: Path,
        step: int,
        seconds: float,
        *,
        title: str,
        show: bool,
    ) -> None:
        self.config, self.run = config, run
        self._pending: list[tuple[int, dict[str, Tensor], Tensor | None]] = []
        self._last_write = (step, seconds)
        self._writer: SummaryWriter | None = None
        self._accelerator = accelerator
        if accelerator.is_main_process:
            self._remove_lines_after(step)
        self._bar = Progress(config.steps, f"{title} steps", done=step, quiet=not show)

    def add(self, step: int, losses: dict[str, Tensor], norm: Tensor | None) -> None:
        """Record a finished step.

        Args:
            step: Number of steps done.
            losses: Mean losses of this process, scalars on the device.
            norm: Norm of the gradient, if it was computed.
        """
        self._pending.append((step, losses, norm))
        self._bar.update()

    def write(self, step: int, seconds: float) -> None:
        """Log the means, over steps and processes, since the last call.

        Args:
            step: Number of steps done.
            seconds: Training time so far, in seconds.

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
        last_step, last_seconds = self._last_write
        images = (step - last_step) * self.config.batch_size
        line["images_per_second"] = images / max(seconds - last_seconds, 1e-9)
        line["seconds"] = seconds
        self._pending, self._last_write = [], (step, seconds)
        if self._accelerator.is_main_process:
            self._record(line)

    def add_report(self, step: int, metrics: dict[str, Any]) -> None:
        """Add the metrics of a report to the line of its step in metrics.jsonl.

        Args:
            step: Number of steps done, not below that of the last line.
            metrics: Values for JSON by name.
        """
        if metrics and self._accelerator.is_main_process:
            lines = read_metrics(self.run)
            # A run whose metrics.jsonl was removed has no line of the step.
            last = lines.pop() if lines and lines[-1]["step"] == step else {"step": step}
            self._rewrite([*lines, last | metrics])
            self._log_to_tensorboard(metrics, step)

    def close(self) -> None:
        """Close the progress bar and TensorBoard's event file."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

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
        self._log_to_tensorboard(values, line["step"])
        self._bar.note(f"loss {line['loss']:.4f}, {_speed(line['images_per_second'])}")

    def _log_to_tensorboard(self, values: dict[str, Any], step: int) -> None:
        if self._writer is None:
            self._writer = SummaryWriter(str(self.run / "tensorboard"), purge_step=step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

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


def _parse_line(line: bytes, source: object) -> dict[str, Any]:
    values = parse_json(line, source)
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        raise ValueError(f"{source} is not a line of metrics with a step: remove it")
    return values
