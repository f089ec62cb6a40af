"""Images to moments and features, by one process or several."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.shards import contiguous_shard
from harope.lab.metrics.feature_set import (
    FeatureSet,
    Provenance,
    load_feature_set,
    merge_files,
    save_feature_set,
)
from harope.lab.metrics.features import Extractor, Features
from harope.lab.metrics.gaussian import Moments
from harope.lab.metrics.image_sets import ImageSet


def measure(
    images: ImageSet,
    extractor: Extractor,
    *,
    batch_size: int = 64,
    keep: bool = True,
    rank: int = 0,
    world_size: int = 1,
    quiet: bool = True,
) -> FeatureSet:
    """Measure one process's share of the images, `batch_size` at once.

    With `keep`, features and logits are held in float32 (610 MB for 50,000 images by Inception);
    without, moments alone. Shares are contiguous, so that merged in rank order they are the
    images in order. Raises ValueError naming the first image with NaN or infinite features, and
    where no image is left.
    """
    from tqdm import tqdm

    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    shard = contiguous_shard(len(images), rank, world_size)
    collected = _Collected(extractor, len(shard), keep)
    with tqdm(total=len(shard), desc=images.source, disable=quiet) as bar:
        for batch in images.batches(batch_size, rank, world_size):
            # A copy: arrays over a file's bytes cannot be written to, which torch warns of.
            found = extractor(torch.from_numpy(batch.copy()))
            _check_finite(found.features, images, extractor, shard.start + collected.moments.count)
            collected.add(found)
            bar.update(len(batch))
    return collected.result(provenance(images, extractor))


def compute_features_in_folder(
    images: ImageSet,
    extractor: Extractor,
    folder: Path,
    *,
    batch_size: int = 64,
    rank: int = 0,
    world_size: int = 1,
    quiet: bool = True,
) -> Path:
    """Measure a share into `folder`, unless it is there already; returns its file.

    Raises ValueError where the folder holds features of other images or another extractor.
    """
    path = shard_path(folder, rank, world_size)
    if path.exists():
        there = load_feature_set(path).provenance
        alike = ("extractor", "weights", "resize", "image_size", "digest")
        if difference := there.difference(provenance(images, extractor), alike):
            raise ValueError(
                f"{folder} holds features of another measurement: {difference}; name another folder"
            )
        return path
    measured = measure(
        images, extractor, batch_size=batch_size, rank=rank, world_size=world_size, quiet=quiet
    )
    save_feature_set(measured, path)
    return path


def merge_shards(folder: Path, world_size: int = 1) -> FeatureSet:
    """All shares of a folder, in order. Raises ValueError naming one that is missing."""
    paths = [shard_path(folder, rank, world_size) for rank in range(world_size)]
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} is missing: run the process of that rank to its end")
    return merge_files(paths)


def shard_path(folder: Path, rank: int, world_size: int) -> Path:
    """The file of one process."""
    return folder / f"share-{rank:05d}-of-{world_size:05d}.safetensors"


def provenance(images: ImageSet, extractor: Extractor) -> Provenance:
    """What features of these images by this extractor are made of."""
    return Provenance(
        extractor=extractor.name,
        weights=extractor.weights,
        resize=extractor.resize,
        image_size=images.size,
        source=images.source,
        digest=images.digest,
    )


class _Collected:
    """Moments, and arrays as long as they will be: joining parts would hold them twice."""

    def __init__(self, extractor: Extractor, room: int, keep: bool):
        self.moments = Moments(extractor.features_dim)
        self._spatial: Moments | None = None
        self._room = room if keep else 0
        self._features: np.ndarray | None = None
        self._logits: np.ndarray | None = None

    def add(self, found: Features) -> None:
        at, features = self.moments.count, found.features.cpu().numpy()
        self.moments.update(features)
        if found.spatial is not None:
            spatial = found.spatial.cpu().numpy()
            self._spatial = self._spatial or Moments(spatial.shape[1])
            self._spatial.update(spatial)
        if self._room:
            self._features = self._put(self._features, features, at)
            if found.logits is not None:
                self._logits = self._put(self._logits, found.logits.cpu().numpy(), at)

    def result(self, provenance: Provenance) -> FeatureSet:
        count = self.moments.count
        if not count:
            raise ValueError(f"{provenance.source} has no image left for this process")
        features = None if self._features is None else self._features[:count]
        logits = None if self._logits is None else self._logits[:count]
        return FeatureSet(provenance, self.moments, self._spatial, features, logits)

    def _put(self, array: np.ndarray | None, rows: np.ndarray, at: int) -> np.ndarray:
        if array is None:
            array = np.empty((self._room, rows.shape[1]), np.float32)
        array[at : at + len(rows)] = rows
        return array


def _check_finite(
    features: Float32[Tensor, "batch dim"], images: ImageSet, extractor: Extractor, first: int
) -> None:
    broken = ~features.isfinite().all(dim=1)
    if broken.any():
        place = first + int(broken.nonzero()[0])
        raise ValueError(
            f"{extractor.label} gave NaN or infinite features for image {place} of {images.source}:"
            " check its weights and that image"
        )
