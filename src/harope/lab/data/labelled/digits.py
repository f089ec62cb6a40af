"""The 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from harope.lab.data.dataset import Batch, FiniteLabelledDataset

DigitsSplit: TypeAlias = Literal["all", "train", "test"]
HELD_OUT_EVERY = 5
"""One image in so many belongs to the split ``test``."""


@dataclass(frozen=True, kw_only=True)
class DigitsDataConfig:
    """scikit-learn's digits: nothing to fetch, small enough for a test."""

    kind: Literal["digits"] = "digits"
    split: DigitsSplit = "all"
    """``test`` is every fifth image, ``train`` the others, ``all`` both."""


class DigitsDataset(FiniteLabelledDataset):
    """Images (1, 8, 8) of handwritten digits; the values 0..16 become -1..1.

    Source: UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), test part.
    """

    shape = (1, 8, 8)
    num_classes = 10

    def __init__(self, seed: int = 0, split: DigitsSplit = "all"):
        from sklearn.datasets import load_digits

        digits = load_digits()
        held_out = torch.arange(len(digits.target)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        chosen = {"all": held_out | True, "train": ~held_out, "test": held_out}[split]
        images = torch.as_tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
        self._images = images[chosen]
        self._labels = torch.as_tensor(digits.target, dtype=torch.int64)[chosen]
        super().__init__(len(self._labels), seed)

    def items(self, indices: Sequence[int]) -> Batch:
        """The digits at these places of the data set."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self._images[chosen], self._labels[chosen]
