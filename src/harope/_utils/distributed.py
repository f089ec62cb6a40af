"""The group of processes that work together, on GPUs or on the CPU."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from harope._utils.ranks import LostProcessError, others_failed, shared_store, world_size
from harope._utils.shards import Workers

TIMEOUT = timedelta(minutes=10)
"""Time after which a process gives up waiting for the others in a collective operation."""

_POLL_SECONDS = 0.2
_waits = count()


def this_process() -> PartialState:
    """Return the number and device of this process and how many there are.

    Several processes use the CPU if there is no GPU, or ACCELERATE_USE_CPU says so. `PartialState`
    alone does neither: every process would do all the work.

    Raises:
        ValueError: If more processes were started on this machine than it has GPUs.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    if world_size() > 1 and not cpu:
        gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if 0 < gpus < processes:
            raise ValueError(
                f"{processes} processes were started on this machine, which has {gpus} GPUs: start "
                f"{gpus} (torchrun --nproc_per_node {gpus}), or set ACCELERATE_USE_CPU=true"
            )
        cpu = not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=TIMEOUT)


def workers() -> Workers:
    """Describe the processes that share a piece of work.

    Returns:
        Rank, number of processes, and their barrier.
    """
    state = this_process()
    return Workers(rank=state.process_index, world_size=state.num_processes, wait=wait_for_everyone)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the main process complete the `with` block before the others enter it.

    The others wait for any time, unlike at a barrier, which is for waits of minutes.

    Yields:
        None.
    """
    state = this_process()
    if not state.is_main_process:
        wait_for_main_process()
    yield
    if state.is_main_process:
        wait_for_main_process()


def wait_for_main_process() -> None:
    """Wait until the main process calls this function as well, however long it takes.

    Every process must call it. Reports and the preparation of data may take the main process longer
    than `TIMEOUT`.

    Raises:
        LostProcessError: If another process fails meanwhile.
        RuntimeError: If the machine that has the store of the processes cannot be reached.
    """
    _wait_for(1, arrives=this_process().is_main_process)


def wait_for_everyone() -> None:
    """Wait until every process calls this function as well, however long it takes.

    Raises:
        LostProcessError: If another process fails meanwhile.
        RuntimeError: If the machine that has the store of the processes cannot be reached.
    """
    _wait_for(this_process().num_processes, arrives=True)


def _wait_for(processes: int, *, arrives: bool) -> None:
    number, several = next(_waits), this_process().num_processes > 1
    store = shared_store() if several else None
    if store is None:
        return
    key = f"wait-{number}"
    arrived = store.add(key, int(arrives))
    while arrived < processes:
        if others_failed():
            raise LostProcessError("another process has failed")
        time.sleep(_POLL_SECONDS)
        arrived = store.add(key, 0)
