"""Sharded checkpoints: every process writes its part of the tensors while the training goes on.

checkpoints/step-00001000.sharded/
    shard-00001-model-00001-of-00001.safetensors ...    one file per process
    config.json  state.json  train.json  SHA256SUMS     as in whole checkpoints

PyTorch's distributed checkpoints (DCP) in safetensors files. They are read by any number of
processes, whether these divide the model or not. `gather_checkpoint` makes a whole checkpoint.
"""

import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from harope._utils.atomic import atomic_folder
from harope._utils.checksums import verify_checksums
from harope._utils.distributed import this_process, wait_for_everyone
from harope._utils.json_files import read_json
from harope.lab.training.checkpoint import (
    STEMS,
    TRAIN_FILE,
    CheckpointState,
    TensorsByStem,
    read_state,
    remove_old_checkpoints,
    save_checkpoint,
    write_description,
)
from harope.models.checkpoint_files import CONFIG_FILE, SHARDED, list_all_checkpoints

_ALONE = "torch.distributed is disabled"


def check_checkpoint_format(checkpoint_format: str) -> None:
    """Check that the installed torch writes sharded checkpoints as safetensors.

    Args:
        checkpoint_format: Format of the checkpoints of a training.

    Raises:
        ValueError: If it does not.
    """
    if checkpoint_format == "sharded" and not hasattr(dcp, "HuggingFaceStorageWriter"):
        raise ValueError(
            f"checkpoint_format is 'sharded', but torch {torch.__version__} does not write "
            f"distributed checkpoints as safetensors: install torch 2.9 or later, or set "
            f"checkpoint_format to whole"
        )


class ShardedCheckpointWriter:
    """Writes the sharded checkpoints of a run in the background, one at a time.

    All methods must be called by every process.

    Args:
        run: Run folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        # DCP warns of a single process, which is as good as many.
        warnings.filterwarnings("ignore", _ALONE)
        # Of its own, since the training uses the default group at the same time.
        self._group: Any = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._threads = ThreadPoolExecutor(1, "sharded-checkpoint")
        self._pending: Future[None] | None = None

    def save(
        self,
        state: CheckpointState,
        *,
        model_config: dict[str, Any],
        train_config: dict[str, Any],
        tensors: TensorsByStem,
        keep: int,
    ) -> None:
        """Copy the tensors to the memory of the CPU, and begin to write them.

        The checkpoint before this one is completed first.

        Args:
            state: Step and counters.
            model_config: Description of the model, as JSON values.
            train_config: Configuration of the training, as JSON values.
            tensors: Named tensors by file stem, sharded or not.
            keep: Number of checkpoints that stay.

        Raises:
            OSError: If the checkpoint before cannot be written.
        """
        self.finish()
        folder = self._run / "checkpoints" / f"step-{state.step:08d}{SHARDED}"
        stack, names = ExitStack(), [""]
        is_main = this_process().is_main_process
        if is_main:
            names = [str(stack.enter_context(atomic_folder(folder)))]
        broadcast_object_list(names)
        temporary = Path(names[0])
        written = dcp.async_save(
            {f"{stem}.{name}": value for stem in STEMS for name, value in tensors[stem].items()},
            storage_writer=dcp.HuggingFaceStorageWriter(str(temporary), save_distributed=True),
            process_group=self._group,
        )
        assert isinstance(written, Future)

        def complete() -> None:
            with stack:
                _wait(written, folder)
                if is_main:
                    write_description(temporary, state, model_config, train_config)
            if is_main:
                remove_old_checkpoints(self._run, keep)

        self._pending = self._threads.submit(complete)

    def finish(self) -> None:
        """Wait until the checkpoint that was begun is complete in all processes.

        Raises:
            OSError: If it cannot be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
            wait_for_everyone()


def load_sharded_checkpoint(
    folder: Path, references: Mapping[str, Mapping[str, Tensor]]
) -> tuple[TensorsByStem, CheckpointState]:
    """Read a sharded checkpoint; in a training, every process must call it.

    Args:
        folder: Folder of the checkpoint.
        references: Tensors by file stem and name, whose sharding and device the result has.
            Moments are looked up by the name of their parameter in "optimizer". Others are complete
            tensors on the CPU.

    Returns:
        Tensors by file stem, and the state.

    Raises:
        ValueError: If the checkpoint is damaged, or a tensor has another shape than its reference.
    """
    state = read_state(folder)
    reader = dcp.HuggingFaceStorageReader(str(folder))
    tensors: TensorsByStem = {stem: {} for stem in STEMS}
    flat: dict[str, Tensor] = {}
    try:
        entries: dict[str, Any] = reader.read_metadata().state_dict_metadata
        for path, entry in entries.items():
            stem, _, name = path.partition(".")
            key = name.partition(".")[2] if stem == "optimizer" else name
            reference = references.get(stem, {}).get(key)
            flat[path] = tensors[stem][name] = _empty(entry.size, entry.properties.dtype, reference)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _ALONE)
            dcp.load(flat, storage_reader=reader)
    except (CheckpointException, KeyError, OSError, RuntimeError) as error:
        raise ValueError(f"{folder} cannot be read ({_reason(error)})") from None
    return tensors, state


def gather_checkpoint(sharded: Path) -> Path:
    """Write the whole checkpoint of a sharded one, next to it.

    Args:
        sharded: Folder of the sharded checkpoint in a run.

    Returns:
        Folder of the whole checkpoint.

    Raises:
        ValueError: If it is damaged.
        OSError: If the whole checkpoint cannot be written.
    """
    verify_checksums(sharded)
    tensors, state = load_sharded_checkpoint(sharded, {})
    run = sharded.parent.parent
    return save_checkpoint(
        run,
        state,
        model_config=read_json(sharded / CONFIG_FILE, dict[str, Any]),
        train_config=read_json(sharded / TRAIN_FILE, dict[str, Any]),
        tensors=tensors,
        keep=len(list_all_checkpoints(run)) + 1,
    )


def _wait(written: "Future[Any]", folder: Path) -> None:
    try:
        written.result()
    except CheckpointException as error:
        raise OSError(f"{folder} cannot be written: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Return the first error of the processes that took part, or the error itself."""
    failures = error.failures.values() if isinstance(error, CheckpointException) else ()
    return next((str(failure[0]) for failure in failures), str(error))


def _empty(size: torch.Size, dtype: torch.dtype, reference: Tensor | None) -> Tensor:
    """Create a tensor to read into: like the reference, or complete."""
    # The step counts of moments are scalars, whatever their parameter is.
    if reference is None or not size:
        return torch.empty(size, dtype=dtype)
    if reference.shape != size:
        raise ValueError(f"a tensor has the shape {list(size)}, not {list(reference.shape)}")
    return torch.empty_like(reference, dtype=dtype)
