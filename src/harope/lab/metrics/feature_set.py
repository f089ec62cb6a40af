"""Feature sets of images, with their provenance, and the files that store them.

A `.safetensors` file contains a complete feature set: it is a cache, and processes exchange their
shards by it. An `.npz` file contains mean and covariance under ADM's keys, for use as a reference.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32

from harope._utils.atomic import atomic_path
from harope._utils.json_files import parse_json, validate
from harope.lab.metrics.gaussian import Gaussian, Moments
from harope.lab.metrics.npz import read_arrays

T = TypeVar("T")

MANIFEST_KEY = "manifest"
MERGE_FIELDS = ("extractor", "weights", "resize", "image_size", "digest")
"""Fields of the provenance that the shards of one feature set have in common."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How features were computed.

    Distances are only defined between sets with equal extractor, weights and resize.
    """

    extractor: str
    """Name of the extractor."""
    weights: str
    """Digest of its weights."""
    resize: str
    """How images are resized to the network's input size."""
    image_size: tuple[int, int]
    """Height and width of the images in pixels."""
    source: str
    """Folder or file of the images, as given by the user."""
    digest: str
    """Digest of the source."""

    @classmethod
    def from_json(cls, values: Any, source: object) -> "Provenance":
        """Create a provenance from the JSON form of `asdict`.

        Args:
            values: The values, as read from a file.
            source: Where they come from, the first words of an error.

        Returns:
            The provenance.

        Raises:
            ValueError: If a field is missing or has another type.
        """
        return validate(values, cls, source)

    def difference(self, other: "Provenance", fields: Sequence[str]) -> str | None:
        """Find the first field in which two provenances differ.

        Args:
            other: Provenance to compare with.
            fields: Names of the fields to compare, in this order.

        Returns:
            The field with both values, as a part of an error message; None if no field differs.
        """
        for field in fields:
            value, compared = getattr(self, field), getattr(other, field)
            if value != compared:
                return f"{field.replace('_', ' ')} {_text(value)} against {_text(compared)}"
        return None


@dataclass
class FeatureSet:
    """Features of a set of images, or of one process's shard of it, in the order of the images."""

    provenance: Provenance
    """How the features were computed."""
    moments: Moments
    """Moments of the features."""
    spatial: Moments | None = None
    """Moments of the spatial features; None if the extractor has none."""
    features: Float32[np.ndarray, "images dim"] | None = None
    """Features of each image; None if only moments were kept."""
    logits: Float32[np.ndarray, "images classes"] | None = None
    """Logits of each image; None if the extractor has none or only moments were kept."""

    @property
    def count(self) -> int:
        """Number of images whose features are in the set."""
        return self.moments.count


def merge(parts: Sequence[FeatureSet]) -> FeatureSet:
    """Merge shards in the order of their ranks into one feature set.

    Args:
        parts: The shards.

    Returns:
        Features of all images, in the order of the shards.

    Raises:
        ValueError: If the shards have different images or were computed differently.
    """
    first = parts[0]
    for part in parts[1:]:
        if difference := first.provenance.difference(part.provenance, MERGE_FIELDS):
            raise ValueError(
                f"The shards do not belong to one feature set: {difference}; compute them again"
            )
    moments = _join([part.moments for part in parts])
    assert moments is not None
    return FeatureSet(
        first.provenance,
        moments,
        _join([part.spatial for part in parts]),
        _stack([part.features for part in parts]),
        _stack([part.logits for part in parts]),
    )


def save_feature_set(features: FeatureSet, path: Path) -> None:
    """Write a feature set as safetensors, atomically.

    Args:
        features: Features to write.
        path: File to write or replace.
    """
    from safetensors.numpy import save_file

    arrays = {"features": features.features, "logits": features.logits}
    for name, moments in (("moments", features.moments), ("spatial", features.spatial)):
        if moments is not None:
            arrays |= {
                f"{name}.count": np.array([moments.count]),
                f"{name}.mean": moments.mean,
                f"{name}.scatter": moments.scatter,
            }
    existing = {name: array for name, array in arrays.items() if array is not None}
    with atomic_path(path) as temporary:
        save_file(
            existing, temporary, metadata={MANIFEST_KEY: json.dumps(asdict(features.provenance))}
        )


def load_feature_set(path: Path) -> FeatureSet:
    """Read a file of `save_feature_set`.

    Args:
        path: The file.

    Returns:
        The features.

    Raises:
        ValueError: If the file is damaged or contains something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            provenance = Provenance.from_json(parse_json(file.metadata()[MANIFEST_KEY], path), path)
            names = file.keys()
            arrays = {name: file.get_tensor(name) for name in names}
        moments = _moments(arrays, "moments")
        spatial = _moments(arrays, "spatial") if "spatial.mean" in arrays else None
        for name, width in (("features", len(moments.mean)), ("logits", None)):
            _check_rows(arrays.get(name), name, moments.count, width)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no features ({error}): delete it and compute them again"
        ) from error
    return FeatureSet(provenance, moments, spatial, arrays.get("features"), arrays.get("logits"))


def save_statistics(features: FeatureSet, path: Path) -> None:
    """Write mean and covariance of the features as `.npz`, atomically.

    The keys are ADM's `mu`, `sigma`, `mu_s` and `sigma_s`, and ours `count` and `manifest` (the
    provenance as JSON). ADM's evaluation reads the file once `arr_0` is added to it.

    Args:
        features: Features whose statistics are written.
        path: File to write or replace.

    Raises:
        ValueError: If the set has fewer than two images.
    """
    gaussian = features.moments.gaussian()
    arrays: dict[str, Any] = {"mu": gaussian.mean, "sigma": gaussian.covariance}
    if features.spatial is not None:
        spatial = features.spatial.gaussian()
        arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
    arrays["count"] = np.array(features.count)
    arrays[MANIFEST_KEY] = np.array(json.dumps(asdict(features.provenance)))
    # An open file: numpy would add its ending to the temporary name.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of features, read from a file."""

    gaussian: Gaussian
    """Of the features."""
    spatial: Gaussian | None
    """Of the spatial features; None if the file has none."""
    provenance: Provenance | None
    """How the features were computed; None for ADM's files, which do not say."""


def load_statistics(path: Path) -> Statistics:
    """Read an `.npz` of statistics, ADM's or one of `save_statistics`.

    Args:
        path: The file.

    Returns:
        Mean and covariance, in float64.

    Raises:
        ValueError: If the file is damaged, or `mu` or `sigma` is missing.
    """
    arrays = read_arrays(path, ("mu", "sigma", "mu_s", "sigma_s", "count", MANIFEST_KEY))
    try:
        count = int(arrays["count"]) if "count" in arrays else None
        gaussian = _gaussian(arrays["mu"], arrays["sigma"], count)
        has_spatial = {"mu_s", "sigma_s"} <= set(arrays)
        spatial = _gaussian(arrays["mu_s"], arrays["sigma_s"], count) if has_spatial else None
    except (KeyError, TypeError, ValueError) as error:
        reason = f"there is no array {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{path} holds no statistics ({reason}): pass an .npz with mu and sigma"
        ) from error
    text = arrays.get(MANIFEST_KEY)
    provenance = None if text is None else Provenance.from_json(parse_json(str(text), path), path)
    return Statistics(gaussian, spatial, provenance)


def _gaussian(mean: np.ndarray, covariance: np.ndarray, count: int | None) -> Gaussian:
    return Gaussian(mean.astype(np.float64), covariance.astype(np.float64), count)


def _moments(arrays: dict[str, np.ndarray], name: str) -> Moments:
    mean, scatter = arrays[f"{name}.mean"], arrays[f"{name}.scatter"]
    # Checks shapes and values.
    Gaussian(mean, scatter)
    moments = Moments(len(mean))
    moments.count = int(arrays[f"{name}.count"].item())
    moments.mean, moments.scatter = mean, scatter
    if moments.count < 1:
        raise ValueError(f"{name}.count is {moments.count}")
    return moments


def _check_rows(array: np.ndarray | None, name: str, count: int, width: int | None) -> None:
    """Check that an array has a row of finite float32 values per image."""
    if array is None:
        return
    shape = (count, array.shape[-1] if width is None else width)
    if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite float32 values of shape {shape}, got {array.dtype} of shape "
            f"{array.shape}"
        )


def _join(parts: Sequence[Moments | None]) -> Moments | None:
    """Merge the moments of all shards; None if a shard has none."""
    existing = _unless_missing(parts)
    if existing is None:
        return None
    total = Moments(len(existing[0].mean))
    for part in existing:
        total.merge(part)
    return total


def _stack(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Concatenate the arrays of all shards; None if a shard has none."""
    existing = _unless_missing(parts)
    return None if existing is None else np.concatenate(existing)


def _unless_missing(parts: Sequence[T | None]) -> list[T] | None:
    existing = [part for part in parts if part is not None]
    return existing if len(existing) == len(parts) else None


def _text(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else repr(value)
