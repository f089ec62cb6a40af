"""Computation of feature sets from images, by one process or several."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.progress import Progress
from harope._utils.shards import contiguous_shard
from harope.lab.metrics.feature_set import (
    MERGE_FIELDS,
    FeatureSet,
    Provenance,
    load_feature_set,
    merge,
    save_feature_set,
)
from harope.lab.metrics.features import Extractor, Features
from harope.lab.metrics.gaussian import Moments
from harope.lab.metrics.image_sets import ImageSet


def compute_features(
    images: ImageSet,
    extractor: Extractor,
    *,
    batch_size: int = 64,
    keep_features: bool = True,
    rank: int = 0,
    world_size: int = 1,
    quiet: bool = True,
) -> FeatureSet:
    """Compute the features of one process's shard of the images.

    Shards are contiguous: merged in the order of their ranks, they have the order of the images.

    Args:
        images: All images.
        extractor: Computes the features.
        batch_size: Images per forward pass.
        keep_features: Whether to keep the features and logits of each image, in float32 (610 MB for
            50,000 images with Inception), or only their moments.
        rank: Number of this process.
        world_size: Number of processes.
        quiet: Whether to hide the progress bar.

    Returns:
        Features of the shard.

    Raises:
        ValueError: If `batch_size` is below 1, an image has NaN or infinite features, or the shard
            has no readable image.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    shard = contiguous_shard(len(images), rank, world_size)
    builder = _FeatureSetBuilder(extractor, len(shard), keep_features)
    with Progress(len(shard), f"images of {images.source}", quiet=quiet) as bar:
        for batch in images.batches(batch_size, rank, world_size):
            # A batch may be a read-only view of a file's bytes; torch warns unless it is copied.
            output = extractor(torch.from_numpy(batch.copy()))
            _check_finite(output.features, images, extractor, shard.start + builder.moments.count)
            builder.add(output)
            bar.update(len(batch))
    return builder.build(provenance(images, extractor))


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
    """Compute the features of a shard and save them, unless the folder already has them.

    Args:
        images: All images.
        extractor: Computes the features.
        folder: Folder for the files of all shards.
        batch_size: Images per forward pass.
        rank: Number of this process.
        world_size: Number of processes.
        quiet: Whether to hide the progress bar.

    Returns:
        The file of the shard.

    Raises:
        ValueError: As in `compute_features`, and if the folder contains features of other images or
            of another extractor.
    """
    path = shard_path(folder, rank, world_size)
    if path.exists():
        stored = load_feature_set(path).provenance
        if difference := stored.difference(provenance(images, extractor), MERGE_FIELDS):
            raise ValueError(
                f"{folder} contains features of other images or another extractor: {difference}; "
                f"choose another folder"
            )
        return path
    features = compute_features(
        images, extractor, batch_size=batch_size, rank=rank, world_size=world_size, quiet=quiet
    )
    save_feature_set(features, path)
    return path


def merge_shards(folder: Path, world_size: int = 1) -> FeatureSet:
    """Load and merge the features of all shards in a folder.

    Args:
        folder: Folder filled by `compute_features_in_folder`.
        world_size: Number of processes that filled it.

    Returns:
        Features of all images.

    Raises:
        ValueError: Naming the first missing shard, or if the shards were computed differently.
    """
    paths = [shard_path(folder, rank, world_size) for rank in range(world_size)]
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} is missing: run the process of that rank to completion")
    return merge([load_feature_set(path) for path in paths])


def shard_path(folder: Path, rank: int, world_size: int) -> Path:
    """Name the file that stores the features of one process's shard.

    Args:
        folder: Folder for the files of all shards.
        rank: Number of the process.
        world_size: Number of processes.

    Returns:
        Path of the file.
    """
    return folder / f"share-{rank:05d}-of-{world_size:05d}.safetensors"


def provenance(images: ImageSet, extractor: Extractor) -> Provenance:
    """Describe how an extractor computes the features of an image set.

    Args:
        images: The image set.
        extractor: The extractor.

    Returns:
        Provenance of the features, which is stored with them.
    """
    return Provenance(
        extractor=extractor.name,
        weights=extractor.weights,
        resize=extractor.resize,
        image_size=images.size,
        source=images.source,
        digest=images.digest,
    )


class _FeatureSetBuilder:
    """Accumulates batches into arrays of the final size; concatenation would need twice as much."""

    def __init__(self, extractor: Extractor, capacity: int, keep_features: bool):
        self.moments = Moments(extractor.features_dim)
        self._spatial: Moments | None = None
        self._capacity = capacity if keep_features else 0
        self._features: np.ndarray | None = None
        self._logits: np.ndarray | None = None

    def add(self, batch: Features) -> None:
        start, features = self.moments.count, batch.features.cpu().numpy()
        self.moments.update(features)
        if batch.spatial is not None:
            spatial = batch.spatial.cpu().numpy()
            self._spatial = self._spatial or Moments(spatial.shape[1])
            self._spatial.update(spatial)
        if self._capacity:
            self._features = self._store(self._features, features, start)
            if batch.logits is not None:
                self._logits = self._store(self._logits, batch.logits.cpu().numpy(), start)

    def build(self, provenance: Provenance) -> FeatureSet:
        count = self.moments.count
        if not count:
            raise ValueError(
                f"{provenance.source} has no readable image for this process: run fewer processes"
            )
        features = None if self._features is None else self._features[:count]
        logits = None if self._logits is None else self._logits[:count]
        return FeatureSet(provenance, self.moments, self._spatial, features, logits)

    def _store(self, array: np.ndarray | None, rows: np.ndarray, start: int) -> np.ndarray:
        if array is None:
            array = np.empty((self._capacity, rows.shape[1]), np.float32)
        array[start : start + len(rows)] = rows
        return array


def _check_finite(
    features: Float32[Tensor, "batch dim"], images: ImageSet, extractor: Extractor, first: int
) -> None:
    invalid = ~features.isfinite().all(dim=1)
    if invalid.any():
        index = first + int(invalid.nonzero()[0])
        raise ValueError(
            f"{extractor.display_name} gave NaN or infinite features for image {index} of "
            f"{images.source}: check its weights and that image"
        )
