"""Division of numbered work over processes.

Processes are numbered 0, 1, ..., world_size - 1; the number is called rank. Together, all shards
contain every item exactly once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def do_nothing() -> None:
    """Do nothing, where one process needs not wait for others."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The processes that share a piece of work; by default there is only one."""

    rank: int = 0
    """Number of this process."""
    world_size: int = 1
    """Number of processes."""
    wait: Callable[[], None] = do_nothing
    """Function that returns once every process has called it."""


def contiguous_shard(count: int, rank: int, world_size: int) -> range:
    """Return the item numbers of one process as one block.

    Blocks in rank order are all items in order, and their sizes differ by at most 1.

    Args:
        count: Number of items.
        rank: Number of the process.
        world_size: Number of processes.

    Raises:
        ValueError: If `rank` does not lie in 0 .. world_size - 1.
    """
    _check_rank(rank, world_size)
    return range(rank * count // world_size, (rank + 1) * count // world_size)


def strided_shard(items: Sequence[T], rank: int, world_size: int) -> Sequence[T]:
    """Return every `world_size`-th item, beginning with number `rank`.

    All processes advance through the items at the same pace, so that an interrupted run leaves
    the first ones finished.

    Args:
        items: All items, in the same order in every process.
        rank: Number of the process.
        world_size: Number of processes.

    Raises:
        ValueError: If `rank` does not lie in 0 .. world_size - 1.
    """
    _check_rank(rank, world_size)
    return items[rank::world_size]


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} must lie in 0 .. world_size - 1, world_size is {world_size}")
