"""This process among those that a launcher such as torchrun started, from its environment.

Nothing heavy is imported, so that the command line can ask before it knows what it will run.
"""

import os
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

_REPORT = "report"
_CONNECTION_ERRORS = ("connection closed by peer", "connection reset by peer", "broken pipe")
_STORE_TIMEOUT = timedelta(seconds=20)


def rank() -> int:
    """Return the number of this process, 0 for the main one."""
    return int(os.environ["RANK"]) if _is_launched() else 0


def world_size() -> int:
    """Return the number of processes that were launched together."""
    return int(os.environ["WORLD_SIZE"]) if _is_launched() else 1


def _is_launched() -> bool:
    # Some clusters set RANK and WORLD_SIZE for whole machines.
    return all(name in os.environ for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"))


def claim_report() -> bool:
    """Tell whether this process is the one to report why all processes end.

    When an error occurs in one process, the others fail too, for the same reason or because they
    wait for it in vain. The first that asks is told to report, so that the user reads one line.

    Returns:
        True in the first process that asks, False in the others. Without a store that the
        processes share, the main process reports.
    """
    if world_size() == 1:
        return True
    try:
        store = shared_store()
        return rank() == 0 if store is None else store.add(_REPORT, 1) == 1
    # The store is gone with the machine that had it: every process that is left says so.
    except RuntimeError:
        return True


def others_failed() -> bool:
    """Tell whether a process has called `claim_report`.

    Raises:
        RuntimeError: If the machine that has the store cannot be reached.
    """
    store = shared_store()
    return store is not None and bool(store.check([_REPORT]))


def check_one_process(command: str) -> None:
    """Check that a command that does not share its work was started once.

    Args:
        command: The command, for the error.

    Raises:
        ValueError: If several processes were launched.
    """
    if world_size() > 1:
        raise ValueError(
            f"`{command}` works in one process, but {world_size()} were started: run it without "
            f"torchrun or srun"
        )


class LostProcessError(RuntimeError):
    """Another process, which this one waits for, has failed."""


@cache
def shared_store() -> "Store | None":
    """Connect to the key-value store that the launched processes share.

    Returns:
        The store, with names of its own for every (re)start by torchrun; None if there is none,
        because the main process has not opened it yet.

    Raises:
        RuntimeError: If the machine that has the store cannot be reached.
    """
    import torch.distributed as dist

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and not dist.is_initialized():
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    prefix = "/".join(["harope", *(os.environ.get(name, "") for name in names)])
    client = dist.TCPStore(address, port, is_master=False, timeout=_STORE_TIMEOUT)
    return dist.PrefixStore(prefix, client)


def explain_lost_process(error: RuntimeError) -> str | None:
    """Explain an error that is due to the end of another process.

    Args:
        error: Error of a collective operation, or any other.

    Returns:
        What happened and what to do; None for other errors.
    """
    if world_size() == 1:
        return None
    import torch.distributed as dist

    text = str(error).lower()
    lost = isinstance(error, (LostProcessError, dist.DistError))
    if not lost and not any(words in text for words in _CONNECTION_ERRORS):
        return None
    return (
        "another process has ended or cannot be reached: look for its message, on this machine or "
        "another; the same command goes on from what is complete"
    )
