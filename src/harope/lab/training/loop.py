"""The training loop. All that depends on the model, the data and the loss is in a `Task`."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from harope._utils.distributed import main_process_first, wait_for_main_process
from harope._utils.folder_lock import lock_folder
from harope._utils.hub import check_upload
from harope._utils.identity import first_difference
from harope._utils.interruption import (
    InterruptedBySignalError,
    PendingSignal,
    deferred_signals,
    stopped_by_signals,
)
from harope._utils.sharding import full_tensor, shard_like
from harope.lab.data.dataset import loader
from harope.lab.training.checkpoint import (
    CheckpointState,
    LoadedCheckpoint,
    TensorsByStem,
    advise_on_divergence,
    check_finite,
    check_same_tensors,
    describe_start,
    load_checkpoint,
    load_newest_checkpoint,
    load_optimizer_tensors,
    load_start,
    optimizer_tensors,
    remove_old_checkpoints,
    save_checkpoint,
    set_aside,
)
from harope.lab.training.execution import compiles, num_data_workers
from harope.lab.training.initial_weights import (
    find_origin,
    load_initial_weights,
    read_initial_model,
)
from harope.lab.training.logging import MetricsLogger, TimedIterator, notice
from harope.lab.training.optim import (
    EMA,
    QKLRMultiplier,
    check_optimizer,
    create_optimizer,
)
from harope.lab.training.parallel import (
    add_gradients,
    gather,
    shard_model,
    start_processes,
    unsharded,
)
from harope.lab.training.publish import push_run
from harope.lab.training.run_dir import changed_fields, check_run, open_run
from harope.lab.training.serialization import flat, to_json
from harope.lab.training.sharded_checkpoint import (
    ShardedCheckpointWriter,
    check_checkpoint_format,
    load_sharded_checkpoint,
)
from harope.lab.training.task import RunConfig, Task, TensorBatch
from harope.lab.training.tasks import create_task
from harope.lab.training.trackers import check_trackers
from harope.models.checkpoint_files import is_sharded_checkpoint, list_all_checkpoints
from harope.rope import encoding_parameters

_STEPS_BETWEEN_SIGNALS = 10
"""How often several processes compare the signals that they received."""


def train(
    config: RunConfig, out: str | Path, *, start: str | Path | None = None, quiet: bool = False
) -> Path:
    """Train a model, or resume its training from the last checkpoint in the run folder.

    SIGINT, SIGTERM and SIGUSR1 end the training after the current step, with a checkpoint.

    Args:
        config: Configuration of the training.
        out: Run folder, created if missing.
        start: Checkpoint that a new run starts from, with its weights, EMA, optimizer state and
            number of steps. The configuration may be another one, such as a smaller learning rate
            after a training that diverged. `config.init` takes nothing but weights instead.
        quiet: Whether to hide the progress bar.

    Returns:
        Folder of the last checkpoint.

    Raises:
        ValueError: If another process uses the folder, or it contains another run; if a tracker is
            not installed or does not start, or nothing can be uploaded to the hub; if the installed
            torch does not have the optimizer; if the weights of `config.init` do not fit; if data
            and model do not fit, or the data has changed since the last checkpoint; if no
            checkpoint can be read; or if the loss or the weights are not finite (the last
            checkpoint is kept).
        OSError: If a file cannot be written (the last checkpoint is kept).
        InterruptedBySignalError: If a signal ended the training.
    """
    # Creating the model may take long, so check everything else before.
    out = Path(out)
    check_run(config, out)
    check_optimizer(config.optimizer)
    check_checkpoint_format(config.checkpoint_format)
    check_trackers(config.report_to)
    if config.init is not None and start is not None:
        raise ValueError(
            f"a run starts from weights or from a checkpoint, but init is {config.init!r} and "
            f"--from {start} is given: leave one of them out"
        )
    accelerator = start_processes(config)
    if config.push_to_hub is not None and accelerator.is_main_process:
        check_upload(config.push_to_hub)
    initial = None
    if config.init is not None and not list_all_checkpoints(out):
        with main_process_first():
            initial = read_initial_model(config)
    torch.manual_seed(config.seed)
    with lock_folder(out) if accelerator.is_main_process else nullcontext() as stale:
        if stale is not None:
            notice(f"{out} was locked by {stale}, which has ended")
        task = create_task(config, accelerator.device)
        if initial is not None:
            for line in load_initial_weights(task.model, config, initial):
                if accelerator.is_main_process:
                    notice(f"init {config.init}: {line}")
        trainer = Trainer(task, out, accelerator, origin=initial.origin if initial else None)
        trainer.restore(None if start is None else Path(start))
        # Written last, so that a command that is refused leaves nothing.
        if accelerator.is_main_process:
            changes = changed_fields(config, out)
            open_run(config, out)
            for change in () if quiet else changes:
                notice(change)
        wait_for_main_process()
        checkpoint = trainer.run_steps(quiet)
        if config.push_to_hub is not None and accelerator.is_main_process:
            _push(out, config.push_to_hub)
        return checkpoint


def _push(run: Path, hub_id: str) -> None:
    try:
        notice(f"uploaded to {push_run(run, hub_id)}")
    except (ValueError, OSError) as error:
        raise ValueError(
            f"the training is complete in {run}, but {error}; `harope push {run} {hub_id}` uploads "
            f"it later"
        ) from error


class Trainer:
    """The state of a training, and the steps that advance it.

    Args:
        task: Model, data and loss.
        run: Run folder.
        accelerator: Devices, processes and mixed precision.
        origin: Where the model's initial weights come from; None for new weights.
    """

    def __init__(
        self, task: Task, run: Path, accelerator: Accelerator, *, origin: str | None = None
    ) -> None:
        self.task, self.run, self.accelerator = task, run, accelerator
        self.config, self.model = task.config, task.model
        fsdp = self.config.parallel == "fsdp"
        if fsdp:
            # Before EMA and optimizer, which are divided in the same way.
            shard_model(self.model, accelerator.device)
        self.ema = EMA(self.model, self.config.ema_decay)
        optimizer = create_optimizer(self.model, task.parameter_groups(), self.config.optimizer)
        if self.config.optimizer.qk_lr_multiplier != 1:
            QKLRMultiplier(self.model, optimizer, self.config.optimizer.qk_lr_multiplier)
        # Evaluation mode: mixed precision, but no DDP.
        self.wrapped = accelerator.prepare_model(self.model, evaluation_mode=fsdp)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        compiled = compiles(self.config.compile, accelerator.device)
        self.network = torch.compile(self.wrapped) if compiled else self.wrapped
        self.step = 0
        self.seconds = 0.0
        self._origin = origin
        sharded = self.config.checkpoint_format == "sharded"
        self._sharded_writer = ShardedCheckpointWriter(run) if sharded else None
        # Listing the files of the data may take long, so it is done once.
        is_main = accelerator.is_main_process
        self._data = json.loads(json.dumps(task.data_identity())) if is_main else {}

    def restore(self, start: Path | None = None) -> None:
        """Restore the state from the newest checkpoint of the run folder that is not damaged.

        Damaged ones are renamed and reported. Without a checkpoint, a training starts from `start`
        or, if that is None, with new weights.

        Args:
            start: Checkpoint that a new run starts from.

        Raises:
            ValueError: If all checkpoints are damaged, the training data has changed since the
                checkpoint was written, or the checkpoint does not fit the model or the optimizer.
        """
        newest = self._newest_checkpoint()
        if newest is not None:
            self._check_data(newest)
            self._check_origin(newest, start)
            self._load(newest)
        elif start is not None:
            self._start_from(start)

    def _newest_checkpoint(self) -> LoadedCheckpoint | None:
        """Load the newest checkpoint that is not damaged, which the main process finds."""
        newest, is_main = None, self.accelerator.is_main_process
        if is_main and (newest := load_newest_checkpoint(self.run)) is not None:
            for path, reason in newest.damaged.items():
                moved = set_aside(path).name
                notice(f"warning: checkpoint {path} is damaged ({reason}): renamed to {moved}")
        wait_for_main_process()
        folders: list[Path | None] = [None if newest is None else newest.folder]
        broadcast_object_list(folders)
        folder = folders[0]
        if folder is None:
            return None
        if is_sharded_checkpoint(folder):
            references: TensorsByStem = self._tensors()
            references["optimizer"] = dict(self.model.named_parameters())
            return LoadedCheckpoint(folder, *load_sharded_checkpoint(folder, references))
        return newest or LoadedCheckpoint(folder, *load_checkpoint(folder))

    def run_steps(self, quiet: bool) -> Path:
        """Run all remaining steps, and write logs, checkpoints and reports when they are due.

        A report of the restored step that is missing is made first.

        Args:
            quiet: Whether to hide the progress bar.

        Returns:
            Folder of the last checkpoint.

        Raises:
            ValueError: If the loss or the weights are not finite.
            InterruptedBySignalError: If a signal ended the training after a checkpoint.
        """
        show = self.accelerator.is_main_process and not quiet
        logger = MetricsLogger(
            self.accelerator,
            self.config,
            self.model,
            flat(to_json(self.config)),
            self.run,
            self.step,
            self.seconds,
            title=self.task.title,
            show=show,
        )
        try:
            self._complete_report(logger, quiet)
            self.model.train()
            with deferred_signals() as pending:
                if self.step < self.config.steps:
                    self._run_steps(logger, pending)
                    self._make_last_report(logger, pending)
        finally:
            logger.close()
        return list_all_checkpoints(self.run)[-1]

    def _run_steps(self, logger: MetricsLogger, pending: PendingSignal) -> None:
        config, batches = self.config, TimedIterator(self._batches())
        started = time.perf_counter() - self.seconds
        while self.step < config.steps:
            losses, norm = self._train_step(batches)
            self.step += 1
            logger.add(self.step, losses, norm)
            last = self.step == config.steps
            number = 0 if last else self._agreed_signal(pending)
            saves = last or number or self.step % config.checkpoint_every == 0
            self.seconds = time.perf_counter() - started
            if number or self._is_logged(self.step):
                logger.write(self.step, self.seconds, batches.seconds)
            if saves:
                self.save(whole=last)
            if number:
                self._finish_saving()
                raise InterruptedBySignalError(
                    number,
                    f"stopped by {signal.Signals(number).name} after step {self.step} of "
                    f"{config.steps}, with a checkpoint in {self.run}: the same command goes on",
                )
            if self._report_is_due() and not last:
                logger.add_report(self.step, self._report())

    def _make_last_report(self, logger: MetricsLogger, pending: PendingSignal) -> None:
        """Make the report of the last step, which a signal ends at once: it can be made later."""
        advice = f"all {self.step} steps are taken, and the same command makes the last report"
        if pending.number:
            name = signal.Signals(pending.number).name
            raise InterruptedBySignalError(pending.number, f"stopped by {name}; {advice}")
        with stopped_by_signals(advice):
            logger.add_report(self.step, self._report())

    def _agreed_signal(self, pending: PendingSignal) -> int:
        """Return the signal that ends the training after this step, the same in all processes."""
        if self.accelerator.num_processes == 1:
            return pending.number
        # Signals reach processes at different steps, and comparing them waits for the devices.
        if self.step % _STEPS_BETWEEN_SIGNALS:
            return 0
        numbers = torch.tensor([pending.number], device=self.accelerator.device)
        return int(self.accelerator.gather(numbers).max())

    def _is_logged(self, step: int) -> bool:
        config = self.config
        every = (config.log_every, config.checkpoint_every, config.sample_every)
        return step == config.steps or any(step % count == 0 for count in every)

    def _report_is_due(self) -> bool:
        due = self.step == self.config.steps or self.step % self.config.sample_every == 0
        return self.step > 0 and due

    def _complete_report(self, logger: MetricsLogger, quiet: bool) -> None:
        """Make what a process that was killed after its last checkpoint has left out."""
        main, config = self.accelerator.is_main_process, self.config
        if self.step and main:
            if self.step >= config.steps:
                notice(f"{self.run} has taken {self.step} of {config.steps} steps: nothing to do")
            elif not quiet:
                notice(f"going on from step {self.step} of {config.steps}")
            remove_old_checkpoints(self.run, config.keep_checkpoints)
        if self.step:
            self._export()
        missing = [self._report_is_due() and not self.task.has_report(self.run, self.step)]
        # All processes decide as the main one does, which may have begun to write.
        broadcast_object_list(missing)
        if missing[0]:
            logger.add_report(self.step, self._report())

    def _batches(self) -> Iterator[TensorBatch]:
        return loader(
            self.task.source,
            batch_size=self.config.batch_size // self.config.accumulation,
            start_step=self.step * self.config.accumulation,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            num_workers=num_data_workers(self.config.num_workers, self.accelerator.device),
        )

    def _train_step(
        self, batches: Iterator[TensorBatch]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Do one optimizer step; return mean losses, and the gradient norm if it is clipped."""
        config, accelerator = self.config, self.accelerator
        total: dict[str, Tensor] = {}
        for index in range(config.accumulation):
            # FSDP adds up the gradients of micro-batches divided, which takes less memory.
            syncs = index + 1 == config.accumulation or config.parallel == "fsdp"
            with nullcontext() if syncs else accelerator.no_sync(self.wrapped):
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
            Norm of the gradients before clipping, a scalar on the device; None without clipping,
            except for steps that are logged.
        """
        config = self.config.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(step, self.config.steps)
        norm = None
        if config.clip_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        elif self._is_logged(step + 1):
            self.accelerator.unscale_gradients()
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
        norm = None if norm is None else full_tensor(norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        return norm

    def _backward(self, batch: TensorBatch, index: int) -> dict[str, Tensor]:
        """Add the gradients of the step's micro-batch `index`; return its mean losses."""
        config = self.config
        batch = self.task.to_device(batch, self.accelerator.device)
        # A micro-batch is divided among the processes.
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        batch_offset = (index * world_size + rank) * len(batch[0])
        losses = self.task.losses(self.network, batch, self.step, batch_offset)
        means = {name: values.mean() for name, values in losses.items()}
        penalty = config.regularization * self.task.regularization()
        parts = config.accumulation
        if config.parallel == "fsdp":
            self.accelerator.backward(means["loss"] / parts)
            # Afterwards: FSDP writes the same gradients in a stream of its own.
            add_gradients(penalty / parts, encoding_parameters(self.model))
        else:
            self.accelerator.backward((means["loss"] + penalty) / parts)
        return {name: value.detach() for name, value in means.items()}

    def save(self, *, whole: bool = True) -> None:
        """Write a checkpoint of the current step, and the files that the task exports.

        Every process must call it. A whole checkpoint is written by the main process, while the
        others wait.

        Args:
            whole: Whether the checkpoint is whole even if the configuration says sharded.

        Raises:
            ValueError: If weights, EMA or moments are not finite. Gradients that are not finite
                make the moments so.
            OSError: If it cannot be written.
        """
        tensors = self._tensors()
        self._check_finite(tensors)
        scaler = self.accelerator.scaler
        state = CheckpointState(
            step=self.step,
            seconds=self.seconds,
            images=self.step * self.config.batch_size,
            ema_updates=self.ema.updates,
            scaler=scaler.state_dict() if scaler is not None else None,
            data=self._data,
            origin=self._origin,
        )
        description: dict[str, Any] = {
            "model_config": self.task.model_config(),
            "train_config": to_json(self.config),
            "keep": self.config.keep_checkpoints,
        }
        self._finish_saving()
        if self._sharded_writer is not None and not whole:
            self._sharded_writer.save(state, tensors=tensors, **description)
        else:
            is_main = self.accelerator.is_main_process
            tensors = {stem: gather(named, keep=is_main) for stem, named in tensors.items()}
            if is_main:
                save_checkpoint(self.run, state, tensors=tensors, **description)
        self._export()

    def _finish_saving(self) -> None:
        """Wait until the sharded checkpoint that is being written is complete."""
        if self._sharded_writer is not None:
            self._sharded_writer.finish()

    def _tensors(self) -> TensorsByStem:
        return {
            "model": self.task.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer.optimizer, self.model),
        }

    def _check_finite(self, tensors: TensorsByStem) -> None:
        problems: list[str | None] = [None]
        try:
            check_finite(tensors)
        except ValueError as error:
            problems = [str(error)]
        if self.config.parallel == "fsdp":
            problems = gather_object(problems)
        for problem in filter(None, problems):
            raise ValueError(
                f"no checkpoint of step {self.step} was written, because {problem}: "
                f"{advise_on_divergence(self.run)}"
            )

    def _export(self) -> None:
        """Write the files that the task exports, in the main process."""
        is_main = self.accelerator.is_main_process
        if is_main or self.config.parallel == "fsdp":
            with self.ema.swapped(), TemporaryDirectory() as scratch:
                self.task.export(self.run if is_main else Path(scratch))
        wait_for_main_process()

    @contextmanager
    def _averaged_model(self) -> Iterator[None]:
        """Give the model of the main process its EMA weights inside the `with` block."""
        if self.config.parallel == "fsdp":
            with self.ema.swapped(), unsharded(self.model):
                yield
        else:
            with self.ema.swapped() if self.accelerator.is_main_process else nullcontext():
                yield

    def _load(self, checkpoint: LoadedCheckpoint) -> None:
        tensors, state = checkpoint.tensors, checkpoint.state
        try:
            check_same_tensors(tensors["model"], self.task.state_dict())
            check_same_tensors(tensors["ema"], self.ema.state_dict())
            self.task.load_state_dict(shard_like(tensors["model"], self.task.state_dict()))
            averages = shard_like(tensors["ema"], self.ema.state_dict())
            self.ema.load_state_dict(averages, state.ema_updates)
            load_optimizer_tensors(self.optimizer.optimizer, self.model, tensors["optimizer"])
        except ValueError as error:
            raise ValueError(
                f"checkpoint {checkpoint.folder} does not fit the configuration: {error}"
            ) from None
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        self.step, self.seconds, self._origin = state.step, state.seconds, state.origin

    def _start_from(self, start: Path) -> None:
        """Begin a new run with the state of a checkpoint, as its first checkpoint."""
        source = load_start(start)
        if source.state.step >= self.config.steps:
            raise ValueError(
                f"{source.folder} has taken {source.state.step} steps: set steps to more than that"
            )
        self._load(source)
        self._origin = describe_start(source.folder)
        self.save()

    def _check_data(self, checkpoint: LoadedCheckpoint) -> None:
        stored, is_main = checkpoint.state.data, self.accelerator.is_main_process
        if stored and is_main and (difference := first_difference(stored, self._data)):
            raise ValueError(
                f"the training data has changed since {checkpoint.folder} was written, which was "
                f"trained on data with {difference}: restore the data, or start a new run with "
                f"another --out, from this checkpoint with --from"
            )

    def _check_origin(self, checkpoint: LoadedCheckpoint, start: Path | None) -> None:
        """Raise ValueError if the run started from something else, which may be gone by now."""
        given, stored = None, checkpoint.state.origin
        if start is not None and start.exists():
            given = describe_start(load_start(start).folder)
        elif self.config.init is not None and stored is not None:
            given = find_origin(self.config.init, stored)
        if given is not None and stored != given:
            raise ValueError(
                f"{self.run} started from {stored or 'new weights'}, not from {given}: choose "
                f"another --out"
            )

    def _report(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        with self._averaged_model():
            if self.accelerator.is_main_process:
                self.model.eval()
                metrics = self.task.report(self.run, self.step)
                self.model.train()
            wait_for_main_process()
        return metrics
