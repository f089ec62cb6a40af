"""The training loop."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from harope.data.registry import open_source
from harope.data.source import Batch, Source, loader
from harope.models.dit import DiT
from harope.rope import parameter_groups
from harope.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from harope.training.config import TrainConfig
from harope.training.ema import EMA
from harope.training.progress import Progress
from harope.training.run import open_run
from harope.training.samples import write_sample_grid
from harope.training.task import Denoising


def train(config: TrainConfig, out: str | Path, *, quiet: bool = False) -> Path:
    """Train until `config.steps`, going on from the last checkpoint in the folder `out`.

    Returns the last checkpoint. Raises ValueError when the folder holds another run, when data and
    model do not fit, and when the loss is no longer finite (the last checkpoint stays).
    """
    source = open_source(config.data, config.seed)
    check_fit(config, source)
    run = open_run(config, Path(out))
    trainer = Trainer(config, run, source)
    trainer.restore()
    return trainer.run_steps(quiet)


def check_fit(config: TrainConfig, source: Source) -> None:
    """Raise ValueError unless the model takes what the source gives."""
    channels, height, width = source.shape
    patch = config.model.patch_size
    if channels != config.model.in_channels or height % patch or width % patch:
        raise ValueError(
            f"data of shape {source.shape} does not fit model.in_channels "
            f"{config.model.in_channels} and model.patch_size {patch}: change the model's"
        )
    if config.model.num_classes not in (0, source.num_classes):
        raise ValueError(
            f"model.num_classes is {config.model.num_classes} but the data has "
            f"{source.num_classes} classes: set --model.num_classes {source.num_classes}"
        )


class Trainer:
    """The parts of a training and the steps that move them."""

    def __init__(self, config: TrainConfig, run: Path, source: Source) -> None:
        self.config, self.run, self.source = config, run, source
        self.accelerator = Accelerator(mixed_precision=config.precision)
        torch.manual_seed(config.seed)
        architecture = replace(config.model, input_size=source.shape[1:])
        self.model = DiT(architecture).to(self.accelerator.device)
        self.model.gradient_checkpointing = config.gradient_checkpointing
        self.ema = EMA(self.model, config.ema_decay)
        self.process = config.create_process()
        self.task = Denoising(
            self.process, self.model, seed=config.seed, batch_size=config.batch_size
        )
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, self._optimizer())
        self.network = torch.compile(self.wrapped) if config.compile else self.wrapped
        self.step = 0
        self.seconds = 0.0

    def _optimizer(self) -> torch.optim.Optimizer:
        chosen = self.config.optimizer
        groups = parameter_groups(self.model, chosen.weight_decay)
        return torch.optim.AdamW(groups, lr=chosen.lr, betas=chosen.betas, fused=True)

    def restore(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        found = list_checkpoints(self.run)
        if not found:
            return
        tensors, state = load_checkpoint(found[-1])
        self.model.load_state_dict(tensors["model"])
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
        progress = Progress(config, self.run, self.step, self.seconds, show=main and not quiet)
        started = time.perf_counter() - self.seconds
        self.model.train()
        while self.step < config.steps:
            losses, norm = self._train_step(batches)
            self.step += 1
            progress.add(self.step, losses, norm)
            last = self.step == config.steps
            due = last or self.step % config.checkpoint_every == 0
            self.seconds = time.perf_counter() - started
            if due or self.step % config.log_every == 0:
                progress.write(self.accelerator, self.step, self.seconds)
            if due:
                self._save()
            if last or self.step % config.sample_every == 0:
                self._sample()
        progress.close()
        return list_checkpoints(self.run)[-1]

    def _batches(self) -> Iterator[Batch]:
        return loader(
            self.source,
            batch_size=self.config.batch_size // self.config.accumulation,
            start_step=self.step * self.config.accumulation,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            num_workers=self.config.num_workers,
        )

    def _train_step(self, batches: Iterator[Batch]) -> tuple[dict[str, Tensor], Tensor | None]:
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

    def _backward(self, batch: Batch, part: int) -> dict[str, Tensor]:
        device = self.accelerator.device
        images, labels = (values.to(device, non_blocking=True) for values in batch)
        place = part * self.accelerator.num_processes + self.accelerator.process_index
        losses = self.task.losses(self.network, (images, labels), self.step, place * len(images))
        means = {name: values.mean() for name, values in losses.items()}
        penalty = self.config.regularization * self.model.regularization().to(device)
        self.accelerator.backward((means["loss"] + penalty) / self.config.accumulation)
        return {name: value.detach() for name, value in means.items()}

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            save_checkpoint(
                self.run,
                self.step,
                config=self.model.config.to_dict(),
                tensors={
                    "model": self.model.state_dict(),
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
        self.accelerator.wait_for_everyone()

    def _sample(self) -> None:
        if self.accelerator.is_main_process:
            with self.ema.swapped():
                self.model.eval()
                write_sample_grid(
                    self.model,
                    self.process,
                    self.config,
                    self.source.shape,
                    self.run / "samples" / f"step-{self.step:08d}.png",
                )
                self.model.train()
        self.accelerator.wait_for_everyone()
