"""Metrics that compare samples with a reference: FID, sFID, KID, IS, precision and recall, ..."""

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
_NEIGHBOURS: dict[Metric, int] = {"pr": 3, "dc": 5}
"""k of the k-nearest-neighbour balls."""


@dataclass(frozen=True, kw_only=True)
class DistanceConfig:
    """The metrics to compute, and their conventions.

    Raises:
        ValueError: If `metrics` is empty or contains unknown names.
    """

    metrics: tuple[Metric, ...] = ("fid",)
    """Any of fid, sfid (Fréchet distances), kid (kernel distance), is (Inception Score),
    pr (precision and recall) and dc (density and coverage)."""
    splits: Splits = "adm"
    """Splits of the Inception Score, see `inception_score`."""
    subsets: int = 100
    """Number of random subsets of the kernel distance. More subsets lower its standard error."""
    subset_size: int = 1000
    """Images in each subset of the kernel distance."""
    seed: int = 2020
    """Seed of the random subsets."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise ValueError(f"metrics {unknown} are unknown: choose from {', '.join(METRICS)}")

    @property
    def needs_image_features(self) -> bool:
        """Whether a metric needs the features or logits of each image, not only their moments."""
        return bool({"kid", "is", "pr", "dc"} & set(self.metrics))


@dataclass(frozen=True, kw_only=True)
class Score:
    """The value of one metric, with its uncertainty if it has one."""

    name: str
    """Name of the metric; it includes the extractor unless that is Inception."""
    value: float
    """Value of the metric."""
    uncertainty: float | None = None
    """Standard error or standard deviation, as `how` says; None if the metric has neither."""
    how: str = ""
    """Conventions: splits, neighbours or subsets."""


def check_request(
    config: DistanceConfig, samples: ImageSet, reference: Reference, extractor: Extractor
) -> None:
    """Check everything that can be checked before features are computed.

    Args:
        config: Metrics to compute.
        samples: Images to score.
        reference: What to compare them with.
        extractor: Network that will compute the features.

    Raises:
        ValueError: If the metrics cannot be computed from these inputs.
    """
    reference.check(samples, extractor)
    reference.needs_features(config.metrics)
    if "is" in config.metrics and not extractor.has_logits:
        raise ValueError(
            f"is needs logits, but {extractor.display_name} has none: remove it from metrics"
        )
    if "sfid" in config.metrics and not extractor.has_spatial:
        raise ValueError(
            f"sfid needs spatial features, but {extractor.display_name} has none: remove it from "
            f"metrics"
        )
    for source, count in ((samples.source, len(samples)), (reference.source, reference.count)):
        if count is not None and count < 2:
            raise ValueError(f"{source} holds {count} image: give at least 2")
    if "kid" in config.metrics:
        check_subsets(len(samples), reference.count or 0, config.subset_size)
    for name in set(config.metrics) & set(_NEIGHBOURS):
        check_neighbours(min(len(samples), reference.count or 0), _NEIGHBOURS[name])


def compute_metrics(
    config: DistanceConfig, samples: FeatureSet, reference: Reference, extractor: Extractor
) -> list[Score]:
    """Compute the metrics of a configuration, in its order.

    The names FID, KID and IS are reserved for Inception. With another extractor the metrics are
    called FD-, KD- and IS- followed by the extractor's name.

    Args:
        config: Metrics and conventions.
        samples: Features of the samples.
        reference: What to compare them with, with its feature set if the metrics need it.
        extractor: Network that computed the features.

    Returns:
        The scores; a metric such as precision and recall has two.

    Raises:
        ValueError: If the samples or the reference have no features of a kind that a metric needs.
    """
    compute: dict[Metric, Callable[[], Iterator[Score]]] = {
        "fid": lambda: _fid(samples, reference, extractor),
        "sfid": lambda: _sfid(samples, reference),
        "kid": lambda: _kid(config, samples, reference, extractor),
        "is": lambda: _is(config, samples, extractor),
        "pr": lambda: _pr(samples, reference),
        "dc": lambda: _dc(samples, reference),
    }
    return [score for name in config.metrics for score in compute[name]()]


def _fid(samples: FeatureSet, reference: Reference, extractor: Extractor) -> Iterator[Score]:
    value = frechet_distance(samples.moments.gaussian(), reference.gaussian)
    yield Score(name=_metric_name("FID", "FD", extractor), value=value)


def _sfid(samples: FeatureSet, reference: Reference) -> Iterator[Score]:
    if samples.spatial is None:
        raise ValueError(f"{samples.provenance.source} has no spatial features for sfid")
    value = frechet_distance(samples.spatial.gaussian(), reference.spatial)
    yield Score(name="sFID", value=value, how="mixed_6/conv, 7 channels")


def _kid(
    config: DistanceConfig, samples: FeatureSet, reference: Reference, extractor: Extractor
) -> Iterator[Score]:
    distance = kernel_distance(
        _image_features(samples),
        reference.features,
        subsets=config.subsets,
        subset_size=config.subset_size,
        seed=config.seed,
    )
    yield Score(
        name=_metric_name("KID", "KD", extractor),
        value=distance.mean,
        uncertainty=distance.standard_error,
        how=f"{config.subsets} subsets of {config.subset_size}, standard error",
    )


def _is(config: DistanceConfig, samples: FeatureSet, extractor: Extractor) -> Iterator[Score]:
    if samples.logits is None:
        raise ValueError(
            f"The feature set of {samples.provenance.source} has no logits, which the Inception "
            f"Score needs: compute it with keep_features=True and an extractor that has logits"
        )
    score = inception_score(samples.logits, config.splits)
    yield Score(
        name=_metric_name("IS", "IS", extractor),
        value=score.mean,
        uncertainty=score.std if score.parts > 1 else None,
        how=f"splits: {DESCRIPTIONS[config.splits]}; deviation over them",
    )


def _pr(samples: FeatureSet, reference: Reference) -> Iterator[Score]:
    k = _NEIGHBOURS["pr"]
    scores = precision_recall(_image_features(samples), reference.features, k=k)
    yield Score(name="precision", value=scores.precision, how=f"k = {k}")
    yield Score(name="recall", value=scores.recall, how=f"k = {k}")


def _dc(samples: FeatureSet, reference: Reference) -> Iterator[Score]:
    k = _NEIGHBOURS["dc"]
    scores = density_coverage(_image_features(samples), reference.features, k=k)
    yield Score(name="density", value=scores.density, how=f"k = {k}")
    yield Score(name="coverage", value=scores.coverage, how=f"k = {k}")


def _metric_name(inception: str, other: str, extractor: Extractor) -> str:
    return inception if extractor.name == "inception" else f"{other}-{extractor.display_name}"


def _image_features(samples: FeatureSet) -> Float32[np.ndarray, "images dim"]:
    if samples.features is None:
        raise ValueError(
            f"The feature set of {samples.provenance.source} has no features of single images: "
            f"compute it with keep_features=True"
        )
    return samples.features
