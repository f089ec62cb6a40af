"""The training loop, which knows no task."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from harope.lab.data.dataset import loader
from harope.lab.training.checkpoint import (
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from harope.lab.training.config import RunConfig
from harope.lab.training.ema import EMA
from harope.lab.training.logging import Progress
from harope.lab.training.optim import check_optimizer, create_optimizer
from harope.lab.training.qk_lr_multiplier import QKLRMultiplier
from harope.lab.training.registry import create_task
from harope.lab.training.run_dir import check_run, open_run
from harope.lab.training.task import Task, TensorBatch
from harope.models.checkpoint_files import list_checkpoints


def train(config: RunConfig, out: str | Path, *, quiet: bool = False) -> Path:
    """Train until `config.steps`, going on from the last checkpoint in the folder `out`.

    Returns the last checkpoint. Raises ValueError when the folder holds another run, when torch
    lacks the optimizer, when data and model do not fit, and when the loss is no longer finite (the
    last checkpoint stays).
    """
    # Before the model is made, which may take long.
    check_run(config, Path(out))
    check_optimizer(config.optimizer)
    accelerator = Accelerator(mixed_precision=config.precision)
    torch.manual_seed(config.seed)
    task = create_task(config, accelerator.device)
    trainer = Trainer(task, open_run(config, Path(out)), accelerator)
    trainer.restore()
    return trainer.run_steps(quiet)


class Trainer:
    """The parts of a training and the steps that move them."""

    def __init__(self, task: Task, run: Path, accelerator: Accelerator) -> None:
        self.task, self.run, self.accelerator = task, run, accelerator
        self.config, self.model = task.config, task.model
        self.ema = EMA(self.model, self.config.ema_decay)
        optimizer = create_optimizer(self.model, task.parameter_groups(), self.config.optimizer)
        if self.config.optimizer.qk_lr_multiplier != 1:
            QKLRMultiplier(self.model, optimizer, self.config.optimizer.qk_lr_multiplier)
        self.wrapped, self.optimizer = accelerator.prepare(self.model, optimizer)
        self.network = torch.compile(self.wrapped) if self.config.compile else self.wrapped
        self.step = 0
        self.seconds = 0.0

    def restore(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        found = list_checkpoints(self.run)
        if not found:
            return
        tensors, state = load_checkpoint(found[-1])
        self.task.load_state_dict(tensors["model"])
        self.ema.load_state_dict(tensors["ema"], state["ema_updates"])
        load_optimizer_tensors(self.optimizer.optimizer, self.model, tensors["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]

    def run_steps(self, quiet: bool) -> Path:
        """All remaining steps, with what is written along the way."""
        config = self.config
        batches = self._batches()
        main = self.accelerator.is_main_process
        show, title = main and not quiet, self.task.title
        progress = Progress(config, self.run, self.step, self.seconds, title=title, show=show)
        started = time.perf_counter() - self.seconds
        self.model.train()
        while self.step < config.steps:
            losses, norm = self._train_step(batches)
            self.step += 1
            progress.add(self.step, losses, norm)
            last = self.step == config.steps
            saves = last or self.step % config.checkpoint_every == 0
            reports = last or self.step % config.sample_every == 0
            self.seconds = time.perf_counter() - started
            if saves or reports or self.step % config.log_every == 0:
                progress.write(self.accelerator, self.step, self.seconds)
            if saves:
                self._save()
            if reports:
                progress.amend(self._report())
        progress.close()
        return list_checkpoints(self.run)[-1]

    def _batches(self) -> Iterator[TensorBatch]:
        return loader(
            self.task.source,
            batch_size=self.config.batch_size // self.config.accumulation,
            start_step=self.step * self.config.accumulation,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            num_workers=self.config.num_workers,
        )

    def _train_step(
        self, batches: Iterator[TensorBatch]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """One optimizer step; the batch's mean losses and the norm of the gradient if clipped."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = config.optimizer.rate(self.step, config.steps)
        total: dict[str, Tensor] = {}
        for part in range(config.accumulation):
            last = part + 1 == config.accumulation
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                losses = self._backward(next(batches), part)
            total = {k: total.get(k, 0) + v / config.accumulation for k, v in losses.items()}
        norm = None
        if config.optimizer.clip_norm is not None:
            norm = accelerator.clip_grad_norm_(self.model.parameters(), config.optimizer.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        return total, norm

    def _backward(self, batch: TensorBatch, part: int) -> dict[str, Tensor]:
        device = self.accelerator.device
        batch = tuple(values.to(device, non_blocking=True) for values in batch)
        place = part * self.accelerator.num_processes + self.accelerator.process_index
        losses = self.task.losses(self.network, batch, self.step, place * len(batch[0]))
        means = {name: values.mean() for name, values in losses.items()}
        penalty = self.config.regularization * self.task.regularization().to(device)
        self.accelerator.backward((means["loss"] + penalty) / self.config.accumulation)
        return {name: value.detach() for name, value in means.items()}

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            save_checkpoint(
                self.run,
                self.step,
                config=self.task.model_config(),
                tensors={
                    "model": self.task.state_dict(),
                    "ema": self.ema.state_dict(),
                    "optimizer": optimizer_tensors(self.optimizer.optimizer, self.model),
                },
                state={
                    "seconds": self.seconds,
                    "images": self.step * self.config.batch_size,
                    "ema_updates": self.ema.updates,
                    "scaler": scaler.state_dict() if scaler is not None else None,
                },
                keep=self.config.keep_checkpoints,
            )
            with self.ema.swapped():
                self.task.export(self.run)
        self.accelerator.wait_for_everyone()

    def _report(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        if self.accelerator.is_main_process:
            with self.ema.swapped():
                self.model.eval()
                metrics = self.task.report(self.run, self.step)
                self.model.train()
        self.accelerator.wait_for_everyone()
        return metrics
