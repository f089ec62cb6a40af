"""The Inception Score, by either of its conventions."""

from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Float64

from harope.lab.metrics.kid import Spread

Splits: TypeAlias = Literal["adm", "torch-fidelity"]
"""adm: consecutive parts of 5,000 as the images come; torch-fidelity: 10 parts, shuffled."""

DESCRIPTIONS: dict[Splits, str] = {
    "adm": "consecutive 5,000, unshuffled",
    "torch-fidelity": "10, shuffled",
}
_ADM_SIZE = 5000
_FIDELITY_SPLITS = 10
_FIDELITY_SEED = 2020


def inception_score(logits: Float[np.ndarray, "images classes"], splits: Splits = "adm") -> Spread:
    """IS = exp E_x KL(p(y|x) || p(y)), in each part of the images, in float64.

    Source: Salimans et al. 2016 (arXiv 1606.03498), section 4. Both conventions take Inception's
    1,008 logits without bias. ADM reports the mean over the parts, torch-fidelity the mean and
    the standard deviation. No unit: 1 .. classes.

    Raises ValueError for fewer than 10 images in 10 parts.
    """
    parts = _parts(len(logits), splits)
    return Spread.of([_score(logits[part].astype(np.float64)) for part in parts])


def _parts(count: int, splits: Splits) -> list[np.ndarray]:
    if splits == "adm":
        return [
            np.arange(first, min(first + _ADM_SIZE, count)) for first in range(0, count, _ADM_SIZE)
        ]
    if count < _FIDELITY_SPLITS:
        raise ValueError(f"{count} images do not fill {_FIDELITY_SPLITS} splits: give more")
    order = np.random.RandomState(_FIDELITY_SEED).permutation(count)
    ends = [i * count // _FIDELITY_SPLITS for i in range(_FIDELITY_SPLITS + 1)]
    return [order[a:b] for a, b in pairwise(ends)]


def _score(logits: Float64[np.ndarray, "images classes"]) -> float:
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    # A class that no image has any share of adds 0, not 0 * infinity.
    log_marginal = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))
    return float(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))
