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

from harope._utils.ranks import shared_store, world_size

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
        RuntimeError: If the machine that has the store of the processes cannot be reached.
    """
    state = this_process()
    store, number = shared_store() if state.num_processes > 1 else None, next(_waits)
    if store is None:
        return
    key = f"main-{number}"
    if state.is_main_process:
        store.set(key, "done")
    while not store.check([key]):
        time.sleep(_POLL_SECONDS)
