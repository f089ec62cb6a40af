"""Logging of a run: metrics.jsonl, TensorBoard and a progress bar."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from harope._utils.atomic import write_text_atomic
from harope._utils.json_files import parse_json
from harope.lab.training.task import RunConfig

METRICS_FILE = "metrics.jsonl"


class MetricsLogger:
    """Collects the losses of steps on the device, and logs their means.

    Args:
        config: Configuration of the training.
        run: Run folder. Lines of metrics.jsonl after `step` are removed.
        step: Number of steps done before.
        seconds: Training time before, in seconds.
        title: Label of the progress bar.
        show: Whether to show the progress bar.
    """

    def __init__(
        self,
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
        self._remove_lines_after(step)
        self._bar = tqdm(total=config.steps, initial=step, desc=title, disable=not show)

    def add(self, step: int, losses: dict[str, Tensor], norm: Tensor | None) -> None:
        """Record a finished step.

        Args:
            step: Number of steps done.
            losses: Mean losses of this process, scalars on the device.
            norm: Norm of the gradient, if it was computed.
        """
        self._pending.append((step, losses, norm))
        self._bar.update()

    def write(self, accelerator: Accelerator, step: int, seconds: float) -> None:
        """Log the means, over steps and processes, since the last call.

        Args:
            accelerator: Used to average over processes; only the main process writes.
            step: Number of steps done.
            seconds: Training time so far, in seconds.

        Raises:
            ValueError: If the loss of a step was not finite; names the first such step.
        """
        names = list(self._pending[0][1])
        stacked = torch.stack([torch.stack([s[1][name] for name in names]) for s in self._pending])
        rows = accelerator.reduce(stacked, "mean").tolist()
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
        if accelerator.is_main_process:
            self._record(line)

    def extend_last_line(self, metrics: dict[str, Any]) -> None:
        """Add the metrics of a report to the last line of metrics.jsonl.

        Args:
            metrics: Values for JSON by name.
        """
        if metrics:
            *before, last = read_metrics(self.run)
            self._rewrite([*before, last | metrics])
            self._log_to_tensorboard(metrics, last["step"])

    def close(self) -> None:
        """Close the progress bar and TensorBoard's event file."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def _check_finite(self, rows: list[list[float]]) -> None:
        for (step, _, _), row in zip(self._pending, rows, strict=True):
            if not math.isfinite(row[0]):
                self.close()
                raise ValueError(
                    f"the loss is {row[0]} at step {step}: start again with a smaller "
                    f"optimizer.lr, or set optimizer.clip_norm (the last checkpoint is kept)"
                )

    def _record(self, line: dict[str, Any]) -> None:
        with (self.run / METRICS_FILE).open("a") as file:
            file.write(json.dumps(line) + "\n")
        values = {name: value for name, value in line.items() if name != "step"}
        self._log_to_tensorboard(values, line["step"])
        self._bar.set_postfix(
            loss=f"{line['loss']:.4f}", images_per_s=f"{line['images_per_second']:.0f}"
        )

    def _log_to_tensorboard(self, values: dict[str, Any], step: int) -> None:
        if self._writer is None:
            self._writer = SummaryWriter(str(self.run / "tensorboard"), purge_step=step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def _remove_lines_after(self, step: int) -> None:
        """Remove the lines of steps that a resumed run will repeat."""
        lines = read_metrics(self.run)
        if lines:
            self._rewrite([line for line in lines if line["step"] <= step])

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_text_atomic(self.run / METRICS_FILE, text)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read a run's metrics.jsonl.

    Args:
        run: Run folder.

    Returns:
        The lines in order of their steps; none if there is no file.

    Raises:
        ValueError: If a line is not JSON, naming it.
    """
    path = run / METRICS_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return [parse_json(line, f"{path} line {number}") for number, line in enumerate(lines, 1)]
