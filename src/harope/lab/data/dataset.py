"""Training data as an endless sequence of numbered samples.

Samples are numbered 0, 1, 2, ... over the whole training, across all epochs and processes. The
content of a sample depends only on its number and the seed. Training is therefore independent of
the number of processes and workers, and a resumed run continues the same sequence.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from harope._utils.field_checks import UNIT_INTERVAL, check_range
from harope._utils.interruption import ignore_signals
from harope.lab.data.left_out import DEFAULT_MAX_LEFT_OUT

Batch: TypeAlias = tuple[Float32[Tensor, "batch channels height width"], Int64[Tensor, "batch"]]
"""Images or latents, and their class labels."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ImageDataConfig:
    """Base of the configs of square images."""

    kind: str
    """Value that distinguishes this config from others."""
    image_size: int = 256
    """Height and width in pixels."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {self.image_size}")


@dataclass(frozen=True, kw_only=True)
class ImageFilesDataConfig(ImageDataConfig):
    """Base of the configs of square images that are read from files."""

    max_left_out: float = DEFAULT_MAX_LEFT_OUT
    """Largest fraction of what looks like data that may be left out; above it, opening fails."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, UNIT_INTERVAL, "max_left_out")


class Dataset(ABC, Generic[T]):
    """Endless sequence of numbered samples: images in [-1, 1] or latents, with annotations."""

    shape: tuple[int, int, int]
    """Channels, height and width of one sample."""

    @property
    def identity(self) -> dict[str, Any]:
        """JSON values that change with the items; none for endless data."""
        return {}

    @abstractmethod
    def samples(self, numbers: Sequence[int]) -> T:
        """Return the samples with these numbers as one batch.

        Args:
            numbers: Sample numbers, each at least 0.

        Returns:
            Images or latents, float32 (batch, channels, height, width), and their annotations.
        """


class FiniteDataset(Dataset[T]):
    """Dataset of fixed length: each epoch visits every item once, in a new random order.

    A subclass implements `items`, which reads items by their index in the unshuffled dataset.

    Args:
        length: Number of items.
        seed: Seed of the shuffles.

    Raises:
        ValueError: If the length is below 1 or the seed is negative.
    """

    def __init__(self, length: int, seed: int):
        self._shuffle = Shuffle(length, seed)

    def __len__(self) -> int:
        return self._shuffle.length

    # Cached, as it is stored with every checkpoint.
    @cached_property
    def identity(self) -> dict[str, Any]:
        digest = self.files_digest()
        return {"items": len(self)} | ({} if digest is None else {"files": digest})

    def files_digest(self, *, times: bool = False) -> str | None:
        """Return a digest of the names and sizes of the files that the items are read from.

        Args:
            times: Whether the times of their last changes are part of the digest. They reveal
                files that were replaced by others of the same size, but copies have other times.

        Returns:
            The digest, or None if the items are not read from files.
        """
        return None

    @abstractmethod
    def items(self, indices: Sequence[int]) -> T:
        """Return the items at these indices of the unshuffled dataset as one batch.

        Args:
            indices: Item indices, each in [0, length).

        Returns:
            Images or latents, float32 (batch, channels, height, width), and their annotations.
        """

    def samples(self, numbers: Sequence[int]) -> T:
        return self.items(self.item_indices(numbers))

    def item_indices(self, numbers: Sequence[int]) -> list[int]:
        """Return the index of the item that the shuffle assigns to each sample number.

        Args:
            numbers: Sample numbers, each at least 0.

        Returns:
            Item indices, each in [0, length).
        """
        return [self._shuffle.index(number) for number in numbers]


class LabelledDataset(Dataset[Batch]):
    """Dataset of images or latents with class labels, int64 (batch,)."""

    num_classes: int
    """Number of classes; labels lie in [0, num_classes)."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the labels; empty if they have no names."""


class FiniteLabelledDataset(FiniteDataset[Batch], LabelledDataset):
    """Dataset of fixed length of images or latents with class labels."""


def check_same_classes(data: LabelledDataset, held_out: LabelledDataset) -> None:
    """Check that labels mean the same classes in training data and held-out data.

    Held-out data without names may be missing the last classes.

    Args:
        data: Training data.
        held_out: Data of the same task.

    Raises:
        ValueError: If a class is missing on one side; the message names the first one.
    """
    names = set(data.classes), set(held_out.classes)
    if all(names) and names[0] != names[1]:
        name = min(names[0] ^ names[1])
        sides = ("held_out", "data") if name in names[0] else ("data", "held_out")
        raise ValueError(
            f"{sides[0]} has no class {name!r}, which {sides[1]} has, so that labels would differ: "
            f"use the same class folders, each with at least one image, on both sides"
        )
    if held_out.num_classes > data.num_classes:
        raise ValueError(
            f"held_out has {held_out.num_classes} classes, but data has {data.num_classes}: use "
            f"training data of all classes"
        )


class Shuffle:
    """Map from sample numbers to item indices: a new permutation in each epoch.

    Sample `number` is element `number % length` of the permutation of epoch `number // length`.
    A permutation sorts the items by random 64-bit keys of PCG64, because numpy guarantees the
    stream of a bit generator across versions (NEP 19), but not that of `Generator.permutation`.

    Args:
        length: Number of items.
        seed: Seed of the permutations.

    Raises:
        ValueError: If the length is below 1 or the seed is negative.
    """

    def __init__(self, length: int, seed: int):
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}: there are no items to draw")
        check_seed(seed)
        self.length = length
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def index(self, number: int) -> int:
        """Return the item index of a sample number.

        Args:
            number: Sample number, at least 0.

        Returns:
            Item index, in [0, length).
        """
        epoch, position = divmod(number, self.length)
        # Caching one epoch suffices: a batch crosses into the next epoch at most once.
        if epoch != self._epoch:
            self._order = self._permutation(epoch)
            self._epoch = epoch
        return int(self._order[position])

    def _permutation(self, epoch: int) -> np.ndarray:
        keys = np.random.PCG64(np.random.SeedSequence((self.seed, epoch))).random_raw(self.length)
        return np.argsort(keys, kind="stable")


def check_seed(seed: int) -> None:
    """Check the seed of a dataset.

    Args:
        seed: Seed of the dataset.

    Raises:
        ValueError: If the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or greater, got {seed}")


def sample_bits(seed: int, number: int, purpose: int) -> int:
    """Return 32 random bits for one sample.

    Args:
        seed: Seed of the dataset.
        number: Sample number.
        purpose: Distinguishes independent uses for one sample, such as cropping and flipping.

    Returns:
        An integer in [0, 2^32).
    """
    # The spawn key makes these bits independent of the shuffle's, which have the same entropy.
    return int(np.random.SeedSequence((seed, number), spawn_key=(purpose,)).generate_state(1)[0])


def sample_numbers(
    start: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[range]:
    """Divide the sample numbers of each step among the processes, without end.

    In step s all processes together read samples [s * batch_size, (s + 1) * batch_size), split
    into `world_size` equal slices in the order of their ranks.

    Args:
        start: First step.
        batch_size: Samples per step, summed over all processes.
        rank: Rank of this process.
        world_size: Number of processes.

    Returns:
        Iterator over the sample numbers of this process, one range for each step.

    Raises:
        ValueError: If the batch size is not a positive multiple of the world size, the rank is
            out of range or the first step is negative.
    """
    if batch_size < 1 or world_size < 1 or batch_size % world_size:
        raise ValueError(
            f"batch_size {batch_size} cannot be split equally among world_size {world_size} "
            f"processes: it must be a positive multiple of world_size"
        )
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not in [0, world_size {world_size})")
    if start < 0:
        raise ValueError(f"start must be 0 or greater, got {start}")
    return _slices(start * batch_size + rank * (batch_size // world_size), batch_size, world_size)


def _slices(first: int, batch_size: int, world_size: int) -> Iterator[range]:
    while True:
        yield range(first, first + batch_size // world_size)
        first += batch_size


def loader(
    dataset: Dataset[T],
    *,
    batch_size: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> Iterator[T]:
    """Yield the training batches of one process, without end.

    Args:
        dataset: Dataset to read.
        batch_size: Samples per step, summed over all processes.
        start_step: First step.
        rank: Rank of this process.
        world_size: Number of processes.
        num_workers: Worker processes that prefetch batches; 0 reads each batch on request.

    Yields:
        Batches on the CPU. They are pinned if workers read them and a GPU is present.

    Raises:
        ValueError: If the batch size is not a positive multiple of the world size, the rank is
            out of range or the first step is negative.
    """
    numbers = sample_numbers(start_step, batch_size, rank, world_size)
    return _read_batches(dataset.samples, numbers, num_workers)


def items_in_order(
    dataset: FiniteDataset[T], *, batch_size: int, num_workers: int = 0
) -> Iterator[T]:
    """Yield each item once, unshuffled, in batches.

    Args:
        dataset: Dataset to read.
        batch_size: Items per batch; the last batch may be smaller.
        num_workers: Worker processes that prefetch batches; 0 reads each batch on request.

    Yields:
        Batches on the CPU. They are pinned if workers read them and a GPU is present.

    Raises:
        ValueError: If the batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    indices = range(len(dataset))
    batches = (indices[first : first + batch_size] for first in range(0, len(indices), batch_size))
    return items_in_batches(dataset, batches, num_workers=num_workers)


def items_in_batches(
    dataset: FiniteDataset[T], batches: Iterable[range], *, num_workers: int = 0
) -> Iterator[T]:
    """Yield the items of given batches, unshuffled.

    Args:
        dataset: Dataset to read.
        batches: Indices of the items of each batch.
        num_workers: Worker processes that prefetch batches; 0 reads each batch on request.

    Yields:
        Batches on the CPU. They are pinned if workers read them and a GPU is present.
    """
    return _read_batches(dataset.items, iter(batches), num_workers)


def _read_batches(
    read: Callable[[Sequence[int]], T], batches: Iterator[range], num_workers: int
) -> Iterator[T]:
    return map(read, batches) if num_workers == 0 else _from_workers(read, batches, num_workers)


def _from_workers(
    read: Callable[[Sequence[int]], T], batches: Iterator[range], num_workers: int
) -> Iterator[T]:
    results = DataLoader(
        _BatchReader(read),
        batch_sampler=map(list, batches),
        num_workers=num_workers,
        collate_fn=_identity,
        worker_init_fn=ignore_signals,
        pin_memory=torch.cuda.is_available(),
        # Without an own generator, DataLoader draws its base seed from the global one, and the
        # random numbers of the training would depend on whether there are workers.
        generator=torch.Generator(),
    )
    for result in results:
        if isinstance(result, ValueError):
            raise result
        yield result


class _BatchReader(TorchDataset, Generic[T]):
    """Map-style torch dataset that reads a batch in one call."""

    def __init__(self, read: Callable[[Sequence[int]], T]):
        self._read = read

    def __getitems__(self, numbers: Sequence[int]) -> T | ValueError:
        # Returned instead of raised: DataLoader would bury the message in the worker's traceback.
        try:
            return self._read(numbers)
        except ValueError as error:
            return error


def _identity(batch: Any) -> Any:
    return batch
