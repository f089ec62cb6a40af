"""What training data is: batches addressed by the running number of the draw.

Draws are numbered 0, 1, 2, ... over the whole training: every epoch, every process. What a draw
holds depends on its number and the seed alone, so that a training is the same whatever its number
of processes and workers, and a resumed one goes on in the same stream.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Batch: TypeAlias = tuple[Float32[Tensor, "batch channels height width"], Int64[Tensor, "batch"]]
T = TypeVar("T")


class Dataset(ABC, Generic[T]):
    """An endless, numbered stream of images (in [-1, 1]) or latents, with what is said of each."""

    shape: tuple[int, int, int]
    """Channels, height and width of one draw."""

    @abstractmethod
    def draw(self, numbers: Sequence[int]) -> T:
        """The draws of these numbers: float32 (batch, channels, height, width), and the rest."""


class FiniteDataset(Dataset[T]):
    """A stream over a data set of fixed length: each epoch draws every item once, in a new order.

    A subclass reads items by their place in the data set; drawing them is written here.
    """

    def __init__(self, length: int, seed: int):
        self._shuffle = Shuffle(length, seed)

    def __len__(self) -> int:
        return self._shuffle.length

    @abstractmethod
    def items(self, indices: Sequence[int]) -> T:
        """The items at these places of the data set, unshuffled."""

    def draw(self, numbers: Sequence[int]) -> T:
        """The items that the shuffle puts at these draw numbers."""
        return self.items(self.places(numbers))

    def places(self, numbers: Sequence[int]) -> list[int]:
        """The places of the data set that the shuffle puts at these draw numbers."""
        return [self._shuffle.index(number) for number in numbers]


class Source(Dataset[Batch]):
    """Images or latents, each with its class (batch,) int64."""

    num_classes: int
    """Labels lie in [0, num_classes)."""


class FiniteLabelledDataset(FiniteDataset[Batch], Source):
    """A data set of fixed length of images or latents, each with its class."""


class Shuffle:
    """Maps a draw number to an item: a fresh permutation of ``length`` items in each epoch.

    Draw ``number`` is place ``number % length`` of epoch ``number // length``. The permutation
    orders the items by random 64-bit keys of PCG64, whose stream numpy guarantees across versions
    (NEP 19), unlike that of ``Generator.permutation``.
    """

    def __init__(self, length: int, seed: int):
        if length < 1:
            raise ValueError(f"length {length} leaves nothing to draw: it must be at least 1")
        if seed < 0:
            raise ValueError(f"seed {seed} is negative: it must be 0 or more")
        self.length = length
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def index(self, number: int) -> int:
        """The item of this draw, in [0, length)."""
        epoch, place = divmod(number, self.length)
        # One epoch is kept: a batch crosses at most into the next one, never back and forth.
        if epoch != self._epoch:
            self._order = self._permutation(epoch)
            self._epoch = epoch
        return int(self._order[place])

    def _permutation(self, epoch: int) -> np.ndarray:
        keys = np.random.PCG64(np.random.SeedSequence((self.seed, epoch))).random_raw(self.length)
        return np.argsort(keys, kind="stable")


def draws(start: int, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[range]:
    """Yield the draw numbers of this process, step after step from step ``start``, without end.

    Step s of all processes together draws [s * batch_size, (s + 1) * batch_size); process ``rank``
    takes the rank-th of ``world_size`` equal slices. ValueError where they are not equal.
    """
    if batch_size < 1 or world_size < 1 or batch_size % world_size:
        raise ValueError(
            f"batch_size {batch_size} cannot be shared equally by world_size {world_size} "
            "processes: it must be a positive multiple of it"
        )
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not in [0, world_size {world_size})")
    if start < 0:
        raise ValueError(f"start {start} is negative: the first step is 0")
    return _slices(start * batch_size + rank * (batch_size // world_size), batch_size, world_size)


def _slices(first: int, batch_size: int, world_size: int) -> Iterator[range]:
    while True:
        yield range(first, first + batch_size // world_size)
        first += batch_size


def loader(
    source: Dataset[T],
    *,
    batch_size: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> Iterator[T]:
    """Yield this process's batches of ``source`` from step ``start_step``, without end.

    ``batch_size`` counts the draws of all processes together. Worker processes read ahead;
    without them (``num_workers=0``) each batch is drawn when it is asked for. Batches lie on the
    CPU, pinned where a GPU is present and workers read.
    """
    numbers = draws(start_step, batch_size, rank, world_size)
    return _read_ahead(source.draw, numbers, num_workers)


def items_in_order(
    source: FiniteDataset[T], *, start: int = 0, batch_size: int, num_workers: int = 0
) -> Iterator[T]:
    """Yield the items from place ``start`` to the last one, once and unshuffled."""
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    places = range(start, len(source))
    batches = (places[first : first + batch_size] for first in range(0, len(places), batch_size))
    return _read_ahead(source.items, batches, num_workers)


def _read_ahead(
    read: Callable[[Sequence[int]], T], keys: Iterator[range], num_workers: int
) -> Iterator[T]:
    """Read batch after batch, in worker processes where there are any."""
    return map(read, keys) if num_workers == 0 else _from_workers(read, keys, num_workers)


def _from_workers(
    read: Callable[[Sequence[int]], T], keys: Iterator[range], num_workers: int
) -> Iterator[T]:
    batches = DataLoader(
        _Numbered(read),
        # The annotation asks for lists; any iterable of indices is taken.
        batch_sampler=keys,  # type: ignore[arg-type]
        num_workers=num_workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        # The workers' base seed would otherwise come out of the global generator, and the
        # training's random numbers would depend on whether there are workers.
        generator=torch.Generator(),
    )
    for batch in batches:
        if isinstance(batch, ValueError):
            raise batch
        yield batch


class _Numbered(Dataset, Generic[T]):
    """What reads batches by numbers, as a map-style dataset."""

    def __init__(self, read: Callable[[Sequence[int]], T]):
        self._read = read

    def __getitems__(self, numbers: Sequence[int]) -> T | ValueError:
        # Handed over as a value: DataLoader would bury the message in the worker's traceback.
        try:
            return self._read(numbers)
        except ValueError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch
