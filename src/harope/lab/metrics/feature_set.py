"""What is known of a set of images: moments, features, logits, and what made them.

Two files: `.safetensors` holds everything, as a cache and for processes to share; `.npz` holds
mean and covariance under ADM's keys, as a reference.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from harope._utils.atomic import atomic_path
from harope._utils.json_files import parse_json
from harope.lab.metrics.gaussian import Gaussian, Moments

MANIFEST_KEY = "manifest"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made features; distances compare only what was made alike."""

    extractor: str
    """Name of the extractor."""
    weights: str
    """Digest of its weights."""
    resize: str
    """How images came to the network's size."""
    image_size: tuple[int, int]
    """Height and width in pixels."""
    source: str
    """Folder or file, as written."""
    digest: str
    """Of the source."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Provenance":
        """The inverse of `asdict`."""
        return cls(**values | {"image_size": tuple(values["image_size"])})

    def difference(self, other: "Provenance", fields: Sequence[str]) -> str | None:
        """The first field in which two differ, with both values."""
        for field in fields:
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                return f"{field.replace('_', ' ')} {_text(mine)} against {_text(theirs)}"
        return None


@dataclass
class FeatureSet:
    """A set of images, or one process's share of it, in their order."""

    provenance: Provenance
    moments: Moments
    spatial: Moments | None = None
    """Of spatial features, where the extractor has them."""
    features: Float32[np.ndarray, "images dim"] | None = None
    """Where they were kept."""
    logits: Float32[np.ndarray, "images classes"] | None = None
    """Where they were kept."""

    @property
    def count(self) -> int:
        """Number of images."""
        return self.moments.count


def merge(parts: Sequence[FeatureSet]) -> FeatureSet:
    """Shares in order as one. Raises ValueError where they were not made alike."""
    first, dims = parts[0], parts[0].moments.mean.shape[0]
    alike = ("extractor", "weights", "resize", "image_size", "digest")
    for part in parts[1:]:
        if difference := first.provenance.difference(part.provenance, alike):
            raise ValueError(f"these shares are not of one measurement: {difference}")
    return FeatureSet(
        first.provenance,
        _join([part.moments for part in parts], dims),
        None if first.spatial is None else _join_optional([part.spatial for part in parts]),
        _stack([part.features for part in parts]),
        _stack([part.logits for part in parts]),
    )


def merge_files(paths: Iterable[Path]) -> FeatureSet:
    """Files of shares, in rank order, as one."""
    return merge([load_feature_set(path) for path in paths])


def save_feature_set(measured: FeatureSet, path: Path) -> None:
    """Write everything as safetensors, beside and then renamed."""
    from safetensors.numpy import save_file

    arrays = {"features": measured.features, "logits": measured.logits}
    for name, moments in (("moments", measured.moments), ("spatial", measured.spatial)):
        if moments is not None:
            arrays |= {
                f"{name}.count": np.array([moments.count]),
                f"{name}.mean": moments.mean,
                f"{name}.scatter": moments.scatter,
            }
    held = {name: array for name, array in arrays.items() if array is not None}
    with atomic_path(path) as temporary:
        save_file(held, temporary, metadata={MANIFEST_KEY: json.dumps(asdict(measured.provenance))})


def load_feature_set(path: Path) -> FeatureSet:
    """Read what `save_feature_set` wrote. Raises ValueError for a damaged or foreign file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            provenance = Provenance.from_json(parse_json(file.metadata()[MANIFEST_KEY], path))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        moments = _moments(arrays, "moments")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no features ({error}): delete it, measure again") from error
    spatial = _moments(arrays, "spatial") if "spatial.mean" in arrays else None
    return FeatureSet(provenance, moments, spatial, arrays.get("features"), arrays.get("logits"))


def save_statistics(measured: FeatureSet, path: Path) -> None:
    """Write `mu`, `sigma` (and `mu_s`, `sigma_s`) with `count` and the manifest as JSON text.

    ADM's evaluation reads such a file where it is joined with `arr_0`.
    """
    gaussian = measured.moments.gaussian()
    arrays: dict[str, Any] = {"mu": gaussian.mean, "sigma": gaussian.covariance}
    if measured.spatial is not None:
        spatial = measured.spatial.gaussian()
        arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
    arrays["count"] = np.array(measured.count)
    arrays[MANIFEST_KEY] = np.array(json.dumps(asdict(measured.provenance)))
    # An open file: numpy would add its ending to the temporary name.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance from a file."""

    gaussian: Gaussian
    spatial: Gaussian | None
    provenance: Provenance | None
    """None for ADM's files, which do not say."""


def load_statistics(path: Path) -> Statistics:
    """Read ADM's or our `.npz` of statistics. Raises ValueError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            held = set(arrays.files)
            count = int(arrays["count"]) if "count" in held else None
            gaussian = _gaussian(arrays["mu"], arrays["sigma"], count)
            has_spatial = {"mu_s", "sigma_s"} <= held
            spatial = _gaussian(arrays["mu_s"], arrays["sigma_s"], count) if has_spatial else None
            text = str(arrays[MANIFEST_KEY]) if MANIFEST_KEY in held else None
        provenance = Provenance.from_json(parse_json(text, path)) if text is not None else None
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path} holds no statistics ({error})") from error
    return Statistics(gaussian, spatial, provenance)


def _gaussian(mean: np.ndarray, covariance: np.ndarray, count: int | None) -> Gaussian:
    return Gaussian(mean.astype(np.float64), covariance.astype(np.float64), count)


def _moments(arrays: dict[str, np.ndarray], name: str) -> Moments:
    mean = arrays[f"{name}.mean"]
    moments = Moments(len(mean))
    moments.count = int(arrays[f"{name}.count"][0])
    moments.mean, moments.scatter = mean, arrays[f"{name}.scatter"]
    return moments


def _join(parts: Sequence[Moments], dim: int) -> Moments:
    total = Moments(dim)
    for part in parts:
        total.merge(part)
    return total


def _join_optional(parts: Sequence[Moments | None]) -> Moments | None:
    held = [part for part in parts if part is not None]
    return _join(held, held[0].mean.shape[0]) if len(held) == len(parts) else None


def _stack(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    held = [part for part in parts if part is not None]
    return np.concatenate(held) if len(held) == len(parts) else None


def _text(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else repr(value)
