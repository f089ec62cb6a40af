"""The training loop. All that depends on the model, the data and the loss is in a `Task`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harope.lab.data.dataset import loader
from harope.lab.training.logging import MetricsLogger
from harope.lab.training.optim import (
    QKLRMultiplier,
    check_optimizer,
    create_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
)
from harope.lab.training.run_dir import check_run, load_checkpoint, open_run, save_checkpoint
from harope.lab.training.task import RunConfig, Task, TensorBatch
from harope.lab.training.tasks import create_task
from harope.models.checkpoint_files import list_checkpoints


def train(config: RunConfig, out: str | Path, *, quiet: bool = False) -> Path:
    """Train a model, or resume its training from the last checkpoint in the run folder.

    Args:
        config: Configuration of the training.
        out: Run folder, created if missing.
        quiet: Whether to hide the progress bar.

    Returns:
        Folder of the last checkpoint.

    Raises:
        ValueError: If the folder holds another run, the installed torch lacks the optimizer, data
            and model do not fit, or a loss is not finite (the last checkpoint is kept).
    """
    # Creating the model may take long, so check everything else before.
    check_run(config, Path(out))
    check_optimizer(config.optimizer)
    accelerator = Accelerator(mixed_precision=config.precision)
    torch.manual_seed(config.seed)
    task = create_task(config, accelerator.device)
    trainer = Trainer(task, open_run(config, Path(out)), accelerator)
    trainer.restore()
    return trainer.run_steps(quiet)


class Trainer:
    """The state of a training, and the steps that advance it.

    Args:
        task: Model, data and loss.
        run: Run folder.
        accelerator: Devices, processes and mixed precision.
    """

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
        """Restore the state from the last checkpoint of the run folder, if there is one."""
        checkpoints = list_checkpoints(self.run)
        if not checkpoints:
            return
        tensors, state = load_checkpoint(checkpoints[-1])
        self.task.load_state_dict(tensors["model"])
        self.ema.load_state_dict(tensors["ema"], state["ema_updates"])
        load_optimizer_tensors(self.optimizer.optimizer, self.model, tensors["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]

    def run_steps(self, quiet: bool) -> Path:
        """Run all remaining steps, and write logs, checkpoints and reports when they are due.

        Args:
            quiet: Whether to hide the progress bar.

        Returns:
            Folder of the last checkpoint.
        """
        config, title = self.config, self.task.title
        batches = self._batches()
        show = self.accelerator.is_main_process and not quiet
        logger = MetricsLogger(config, self.run, self.step, self.seconds, title=title, show=show)
        started = time.perf_counter() - self.seconds
        self.model.train()
        while self.step < config.steps:
            losses, norm = self._train_step(batches)
            self.step += 1
            logger.add(self.step, losses, norm)
            last = self.step == config.steps
            saves = last or self.step % config.checkpoint_every == 0
            reports = last or self.step % config.sample_every == 0
            self.seconds = time.perf_counter() - started
            if saves or reports or self.step % config.log_every == 0:
                logger.write(self.accelerator, self.step, self.seconds)
            if saves:
                self.save()
            if reports:
                logger.extend_last_line(self._report())
        logger.close()
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
        """Do one optimizer step; return mean losses, and the gradient norm if it is clipped."""
        config, accelerator = self.config, self.accelerator
        total: dict[str, Tensor] = {}
        for index in range(config.accumulation):
            last = index + 1 == config.accumulation
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                losses = self._backward(next(batches), index)
            total = {k: total.get(k, 0) + v / config.accumulation for k, v in losses.items()}
        return total, self.update(self.step)

    def update(self, step: int) -> Tensor | None:
        """Update weights and EMA by the gradients of a step.

        Sets the learning rate of the step, clips the gradients if the configuration says so, steps
        the optimizer, zeroes the gradients and updates the EMA.

        Args:
            step: Number of steps done before.

        Returns:
            Norm of the gradients before clipping, a scalar on the device; None without clipping.
        """
        config = self.config.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(step, self.config.steps)
        norm = None
        if config.clip_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        return norm

    def _backward(self, batch: TensorBatch, index: int) -> dict[str, Tensor]:
        """Add the gradients of the step's micro-batch `index`; return its mean losses."""
        device = self.accelerator.device
        batch = tuple(values.to(device, non_blocking=True) for values in batch)
        # A micro-batch is divided among the processes.
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        batch_offset = (index * world_size + rank) * len(batch[0])
        losses = self.task.losses(self.network, batch, self.step, batch_offset)
        means = {name: values.mean() for name, values in losses.items()}
        penalty = self.config.regularization * self.task.regularization().to(device)
        self.accelerator.backward((means["loss"] + penalty) / self.config.accumulation)
        return {name: value.detach() for name, value in means.items()}

    def save(self) -> None:
        """Write a checkpoint of the current step, and the files that the task exports.

        Every process must call it: the main process writes, the others wait for it.
        """
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


class EMA:
    """Exponential moving average, in float32, of a model's parameters that require a gradient.

    The decay of update n is `min(decay, (1 + n) / (10 + n))`, so that the average also follows the
    weights in short trainings.

    Args:
        model: Model whose parameters are averaged.
        decay: Largest decay, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._names, self._parameters = list(trained), list(trained.values())
        self.average = [p.detach().float().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [
            p.detach().to(a.dtype) for p, a in zip(self._parameters, self.average, strict=True)
        ]
        torch._foreach_lerp_(self.average, weights, 1 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages.

        Returns:
            The averages by parameter name, in float32; not copies.
        """
        return dict(zip(self._names, self.average, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Restore the averages.

        Args:
            state: Averages by parameter name, as returned by `state_dict`.
            updates: Number of updates that led to them.
        """
        for name, average in zip(self._names, self.average, strict=True):
            average.copy_(state[name])
        self.updates = updates

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Replace the model's weights by their averages inside the `with` block.

        Yields:
            None.
        """
        weights = [p.detach().clone() for p in self._parameters]
        self._fill(self.average)
        try:
            yield
        finally:
            self._fill(weights)

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
