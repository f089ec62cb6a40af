"""From measured samples and a reference to named numbers, each with how it was made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float32

from harope.lab.metrics.feature_set import FeatureSet
from harope.lab.metrics.features import Extractor
from harope.lab.metrics.frechet import frechet_distance
from harope.lab.metrics.image_sets import ImageSet
from harope.lab.metrics.inception_score import DESCRIPTIONS, Splits, inception_score
from harope.lab.metrics.kid import check_subsets, kernel_distance
from harope.lab.metrics.prdc import check_neighbours, density_coverage, precision_recall
from harope.lab.metrics.reference import Reference

Metric: TypeAlias = Literal["fid", "sfid", "kid", "is", "pr", "dc"]
METRICS: tuple[Metric, ...] = get_args(Metric)
_MANIFOLD_K: dict[Metric, int] = {"pr": 3, "dc": 5}


@dataclass(frozen=True, kw_only=True)
class DistanceConfig:
    """Which numbers, by which conventions."""

    metrics: tuple[Metric, ...] = ("fid",)
    """fid, sfid: Fréchet distances; kid; is; pr: precision and recall; dc: density, coverage."""
    splits: Splits = "adm"
    """Of the Inception Score."""
    subsets: int = 100
    """Of the kernel distance."""
    subset_size: int = 1000
    """Images in each of them."""
    seed: int = 2020
    """Of their drawing."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise ValueError(f"metrics {unknown} are unknown: choose from {', '.join(METRICS)}")

    @property
    def needs_image_features(self) -> bool:
        """Whether single images' features or logits are needed."""
        return bool({"kid", "is", "pr", "dc"} & set(self.metrics))


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number."""

    name: str
    value: float
    uncertainty: float | None = None
    """Standard error, or the deviation that goes with this name; `how` says which."""
    how: str = ""
    """Splits, neighbours, subsets."""


def check_request(
    config: DistanceConfig, samples: ImageSet, reference: Reference, extractor: Extractor
) -> None:
    """Raise ValueError for all that can be known to fail before any image is measured."""
    reference.check(samples, extractor)
    reference.needs_features(config.metrics)
    if "is" in config.metrics and not extractor.has_logits:
        raise ValueError(f"is needs logits, but {extractor.label} has none: leave it out")
    if "sfid" in config.metrics and not extractor.has_spatial:
        raise ValueError(f"sfid needs spatial features, but {extractor.label} has none")
    for source, count in ((samples.source, len(samples)), (reference.source, reference.count)):
        if count is not None and count < 2:
            raise ValueError(f"{source} holds {count} image: give at least 2")
    if "kid" in config.metrics:
        check_subsets(len(samples), reference.count or 0, config.subset_size)
    for name in set(config.metrics) & set(_MANIFOLD_K):
        check_neighbours(min(len(samples), reference.count or 0), _MANIFOLD_K[name])


def score(
    config: DistanceConfig, samples: FeatureSet, reference: Reference, extractor: Extractor
) -> list[Score]:
    """The numbers asked for, in order. FID, KID and IS are Inception's names; of others they are
    FD-, KD- and IS- with the extractor's.
    """
    compute: dict[Metric, Callable[[], Iterator[Score]]] = {
        "fid": lambda: _fid(samples, reference, extractor),
        "sfid": lambda: _sfid(samples, reference),
        "kid": lambda: _kid(config, samples, reference, extractor),
        "is": lambda: _is(config, samples, extractor),
        "pr": lambda: _pr(samples, reference),
        "dc": lambda: _dc(samples, reference),
    }
    return [one for name in config.metrics for one in compute[name]()]


def _fid(samples: FeatureSet, reference: Reference, extractor: Extractor) -> Iterator[Score]:
    value = frechet_distance(samples.moments.gaussian(), reference.gaussian)
    yield Score(name=_named("FID", "FD", extractor), value=value)


def _sfid(samples: FeatureSet, reference: Reference) -> Iterator[Score]:
    if samples.spatial is None:
        raise ValueError(f"{samples.provenance.source} has no spatial features for sfid")
    value = frechet_distance(samples.spatial.gaussian(), reference.spatial)
    yield Score(name="sFID", value=value, how="mixed_6/conv, 7 channels")


def _kid(
    config: DistanceConfig, samples: FeatureSet, reference: Reference, extractor: Extractor
) -> Iterator[Score]:
    found = kernel_distance(
        _kept(samples),
        reference.features,
        subsets=config.subsets,
        subset_size=config.subset_size,
        seed=config.seed,
    )
    yield Score(
        name=_named("KID", "KD", extractor),
        value=found.mean,
        uncertainty=found.standard_error,
        how=f"{config.subsets} subsets of {config.subset_size}, standard error",
    )


def _is(config: DistanceConfig, samples: FeatureSet, extractor: Extractor) -> Iterator[Score]:
    if samples.logits is None:
        raise ValueError(f"{samples.provenance.source} was measured without logits")
    found = inception_score(samples.logits, config.splits)
    yield Score(
        name=_named("IS", "IS", extractor),
        value=found.mean,
        uncertainty=found.std if found.parts > 1 else None,
        how=f"splits: {DESCRIPTIONS[config.splits]}; deviation over them",
    )


def _pr(samples: FeatureSet, reference: Reference) -> Iterator[Score]:
    k = _MANIFOLD_K["pr"]
    found = precision_recall(_kept(samples), reference.features, k=k)
    yield Score(name="precision", value=found.precision, how=f"k = {k}")
    yield Score(name="recall", value=found.recall, how=f"k = {k}")


def _dc(samples: FeatureSet, reference: Reference) -> Iterator[Score]:
    k = _MANIFOLD_K["dc"]
    found = density_coverage(_kept(samples), reference.features, k=k)
    yield Score(name="density", value=found.density, how=f"k = {k}")
    yield Score(name="coverage", value=found.coverage, how=f"k = {k}")


def _named(known: str, general: str, extractor: Extractor) -> str:
    return known if extractor.name == "inception" else f"{general}-{extractor.label}"


def _kept(samples: FeatureSet) -> Float32[np.ndarray, "images dim"]:
    if samples.features is None:
        raise ValueError(f"{samples.provenance.source} was measured without keeping features")
    return samples.features
