"""What a run reports: metrics.jsonl, TensorBoard and a progress bar."""

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
from harope.lab.training.config import RunConfig

METRICS_FILE = "metrics.jsonl"


class Progress:
    """Collects the losses of steps on the device and writes their means now and then."""

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
        self._mark = (step, seconds)
        self._writer: SummaryWriter | None = None
        self._forget_after(step)
        self._bar = tqdm(total=config.steps, initial=step, desc=title, disable=not show)

    def add(self, step: int, losses: dict[str, Tensor], norm: Tensor | None) -> None:
        """Note the losses of a finished step."""
        self._pending.append((step, losses, norm))
        self._bar.update()

    def write(self, accelerator: Accelerator, step: int, seconds: float) -> None:
        """Write the means since the last call.

        Raises ValueError naming the first step whose loss is not finite.
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
        taken = (step - self._mark[0]) * self.config.batch_size
        line["images_per_second"] = taken / max(seconds - self._mark[1], 1e-9)
        line["seconds"] = seconds
        self._pending, self._mark = [], (step, seconds)
        if accelerator.is_main_process:
            self._record(line)

    def amend(self, metrics: dict[str, Any]) -> None:
        """Add what a report measured to the last line."""
        if metrics:
            *before, last = read_metrics(self.run)
            self._rewrite([*before, last | metrics])
            self._show(metrics, last["step"])

    def close(self) -> None:
        """End the bar and the event file."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def _check_finite(self, rows: list[list[float]]) -> None:
        for (step, _, _), row in zip(self._pending, rows, strict=True):
            if not math.isfinite(row[0]):
                self.close()
                raise ValueError(
                    f"the loss is {row[0]} at step {step}: the last checkpoint is kept; start "
                    f"again with a smaller optimizer.lr, or set optimizer.clip_norm"
                )

    def _record(self, line: dict[str, Any]) -> None:
        with (self.run / METRICS_FILE).open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._show({name: value for name, value in line.items() if name != "step"}, line["step"])
        shown = f"{line['loss']:.4f}", f"{line['images_per_second']:.0f}"
        self._bar.set_postfix(loss=shown[0], images_per_s=shown[1])

    def _show(self, values: dict[str, Any], step: int) -> None:
        """Hand values to TensorBoard."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.run / "tensorboard"), purge_step=step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def _forget_after(self, step: int) -> None:
        """Drop lines past the checkpoint that a run goes on from."""
        lines = read_metrics(self.run)
        if lines:
            self._rewrite([line for line in lines if line["step"] <= step])

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_text_atomic(self.run / METRICS_FILE, text)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    path = run / METRICS_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return [parse_json(line, f"{path} line {number}") for number, line in enumerate(lines, 1)]
