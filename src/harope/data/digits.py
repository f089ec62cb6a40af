"""The 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from harope.data.source import Batch, FiniteSource


@dataclass(frozen=True, kw_only=True)
class DigitsData:
    """scikit-learn's digits: nothing to fetch, small enough for a test."""

    kind: Literal["digits"] = "digits"


class DigitsSource(FiniteSource):
    """Images (1, 8, 8) of handwritten digits; the values 0..16 become -1..1.

    Source: UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), test part.
    """

    shape = (1, 8, 8)
    num_classes = 10

    def __init__(self, seed: int = 0):
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = torch.as_tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
        self._labels = torch.as_tensor(digits.target, dtype=torch.int64)
        super().__init__(len(self._labels), seed)

    def items(self, indices: Sequence[int]) -> Batch:
        """The digits at these places of the data set."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self._images[chosen], self._labels[chosen]
