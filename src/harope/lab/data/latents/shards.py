"""Latents in shards: a folder of safetensors files and a manifest."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harope._utils.atomic import atomic_path, remove_abandoned
from harope._utils.digests import listing_digest
from harope._utils.shards import Workers, strided_shard
from harope.lab.data.dataset import Batch, FiniteLabelledDataset
from harope.lab.data.latents.manifest import (
    MANIFEST_FILE,
    LatentWriter,
    Manifest,
    Shard,
    count_classes,
    load_manifest,
    resume_manifest,
)


class LatentShardWriter(LatentWriter):
    """Resumable writer of latents, which several processes may share shard by shard.

    Shards that are complete stay. The main process lists them in the manifest, in order.

    Args:
        folder: Folder to write to.
        manifest: Description of the complete folder, without shards.
        shard_size: Latents per file.
        workers: This process among those that write to the folder.

    Raises:
        ValueError: If the shard size is below 1, or the folder contains latents with a different
            description.
    """

    def __init__(
        self,
        folder: str | Path,
        manifest: Manifest,
        shard_size: int,
        workers: Workers | None = None,
    ):
        if shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, got {shard_size}")
        self._folder = Path(folder)
        self._workers = workers or Workers()
        self._folder.mkdir(parents=True, exist_ok=True)
        resumed = (self._folder / MANIFEST_FILE).exists()
        self._manifest = resume_manifest(self._folder, manifest)
        if self._workers.rank == 0:
            remove_abandoned(self._folder)
        first, number = self._manifest.count, len(self._manifest.shards)
        self._shards = {
            number + index: range(start, min(start + shard_size, manifest.total))
            for index, start in enumerate(range(first, manifest.total, shard_size))
        }
        # A process that was killed, or others, may have written shards that are not listed yet.
        missing = [n for n in self._shards if not (resumed and self._is_written(n))]
        self._own = list(strided_shard(missing, self._workers.rank, self._workers.world_size))
        # Every process has looked before the first one writes.
        self._workers.wait()
        if self._workers.rank == 0 and self._workers.world_size > 1:
            self._manifest.save(self._folder)
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._num_pending = 0

    @property
    def ranges(self) -> list[range]:
        return [self._shards[number] for number in self._own]

    def add(
        self,
        features: Float[Tensor, "batch channels height width"],
        labels: Int64[Tensor, "batch"],
    ) -> None:
        self._pending.append((features.to("cpu", self._manifest.torch_dtype), labels.cpu()))
        self._num_pending += len(labels)
        while self._own and self._num_pending >= len(self._shards[self._own[0]]):
            self._write(self._own.pop(0))
        assert self._own or not self._num_pending

    def finish(self) -> None:
        self._workers.wait()
        if self._workers.rank == 0:
            self._list_shards()

    def _write(self, number: int) -> None:
        features, labels = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
        count = len(self._shards[number])
        # safetensors rejects views and channels-last memory, which convolutions may produce.
        contiguous = partial(torch.clone, memory_format=torch.contiguous_format)
        tensors = {"features": contiguous(features[:count]), "labels": contiguous(labels[:count])}
        with atomic_path(self._folder / _shard_name(number)) as temporary:
            save_file(tensors, temporary)
        if self._workers.rank == 0:
            self._list_shards()
        self._pending = [(features[count:], labels[count:])]
        self._num_pending -= count

    def _list_shards(self) -> None:
        """Add to the manifest the shards that continue it, by whichever process."""
        shards = list(self._manifest.shards)
        while len(shards) in self._shards and self._is_written(number := len(shards)):
            shards.append(Shard(name=_shard_name(number), count=len(self._shards[number])))
        if len(shards) > len(self._manifest.shards):
            self._manifest = replace(self._manifest, shards=tuple(shards))
            self._manifest.save(self._folder)

    def _is_written(self, number: int) -> bool:
        try:
            with safe_open(self._folder / _shard_name(number), framework="pt") as file:
                shape = file.get_slice("labels").get_shape()
        except (OSError, SafetensorError):
            return False
        return bool(shape == [len(self._shards[number])])


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


class LatentShardDataset(FiniteLabelledDataset):
    """Latents of a folder of shards, which are read from disk on demand.

    Args:
        root: Folder with a `manifest.json`.
        seed: Seed of the shuffles.
        num_classes: Number of classes; None for the manifest's.

    Raises:
        ValueError: If the folder is incomplete, a shard is damaged or a label is out of range.
    """

    def __init__(self, root: str | Path, seed: int = 0, num_classes: int | None = None):
        self._root = Path(root)
        self.manifest = load_manifest(root)
        if self.manifest.count != self.manifest.total:
            raise ValueError(
                f"{root} contains {self.manifest.count} of {self.manifest.total} latents: "
                "run the same `harope encode` again to complete it"
            )
        super().__init__(self.manifest.total, seed)
        self._files: dict[int, Any] = {}
        self._ends = np.array(list(accumulate(shard.count for shard in self.manifest.shards)))
        self._labels = torch.cat([self._label_column(i) for i in range(len(self._ends))])
        self.shape = self.manifest.shape
        declared = self.manifest.num_classes if num_classes is None else num_classes
        self.num_classes = count_classes(self._labels.numpy(), declared, self._root)

    def files_digest(self, *, times: bool = False) -> str:
        names = [shard.name for shard in self.manifest.shards]
        return listing_digest(self._root, names, times=times)

    def items(self, indices: Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return torch.stack([self._row(index) for index in indices]), self._labels[rows]

    def _row(self, index: int) -> Float32[Tensor, "channels height width"]:
        shard = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[shard]) - self.manifest.shards[shard].count
        return self._open(shard).get_slice("features")[index - first].float()

    def _label_column(self, shard: int) -> Int64[Tensor, "count"]:
        file, expected = self._open(shard), self.manifest.shards[shard]
        path = self._root / expected.name
        if set(file.keys()) != {"features", "labels"}:
            raise ValueError(
                f"{path} has the tensors {', '.join(file.keys())} instead of features and labels: "
                f"encode the images again"
            )
        shapes = {name: file.get_slice(name).get_shape() for name in ("features", "labels")}
        if shapes["labels"] != [expected.count]:
            raise ValueError(
                f"{path} contains {shapes['labels'][0]} latents but {MANIFEST_FILE} lists "
                f"{expected.count}: encode the images again"
            )
        if shapes["features"] != [expected.count, *self.manifest.shape]:
            raise ValueError(
                f"{path} contains latents of shape {shapes['features']} but {MANIFEST_FILE} says "
                f"{[expected.count, *self.manifest.shape]}: encode the images again"
            )
        return file.get_tensor("labels").long()

    def _open(self, shard: int) -> Any:
        if shard not in self._files:
            path = self._root / self.manifest.shards[shard].name
            try:
                self._files[shard] = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                raise ValueError(f"{path} is damaged ({error}): encode the images again") from error
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        # File handles cannot be shared: each worker process opens the files itself.
        return self.__dict__ | {"_files": {}}
