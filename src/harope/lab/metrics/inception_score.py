"""The Inception Score, by the convention of ADM or torch-fidelity."""

from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Float64

from harope.lab.metrics.kid import SubsetStatistics

Splits: TypeAlias = Literal["adm", "torch-fidelity"]
"""adm: consecutive splits of 5,000 images in their order; torch-fidelity: 10 shuffled splits."""

DESCRIPTIONS: dict[Splits, str] = {
    "adm": "consecutive 5,000, unshuffled",
    "torch-fidelity": "10, shuffled",
}
_ADM_SIZE = 5000
_FIDELITY_SPLITS = 10
_FIDELITY_SEED = 2020


def inception_score(
    logits: Float[np.ndarray, "images classes"], splits: Splits = "adm"
) -> SubsetStatistics:
    """Compute IS = exp E_x KL(p(y|x) || p(y)) on each split of the images, in float64.

    Source: Salimans et al. 2016 (arXiv 1606.03498), section 4. Both conventions use Inception's
    1,008 logits without bias. ADM reports the mean over the splits, torch-fidelity the mean and
    the standard deviation.

    Args:
        logits: Class logits of each image.
        splits: Convention, "adm" or "torch-fidelity".

    Returns:
        Scores without unit, from 1 to the number of classes.

    Raises:
        ValueError: If there are fewer images than the 10 splits of torch-fidelity.
    """
    return SubsetStatistics.of(
        [
            _score(logits[indices].astype(np.float64))
            for indices in _split_indices(len(logits), splits)
        ]
    )


def _split_indices(count: int, splits: Splits) -> list[np.ndarray]:
    if splits == "adm":
        return [
            np.arange(first, min(first + _ADM_SIZE, count)) for first in range(0, count, _ADM_SIZE)
        ]
    if count < _FIDELITY_SPLITS:
        raise ValueError(
            f"{count} images do not fill {_FIDELITY_SPLITS} splits: give more images or use the "
            f"splits 'adm'"
        )
    order = np.random.RandomState(_FIDELITY_SEED).permutation(count)
    ends = [i * count // _FIDELITY_SPLITS for i in range(_FIDELITY_SPLITS + 1)]
    return [order[a:b] for a, b in pairwise(ends)]


def _score(logits: Float64[np.ndarray, "images classes"]) -> float:
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    # A class whose probability is 0 for all images contributes 0 instead of 0 * infinity.
    log_marginal = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))
    return float(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))
