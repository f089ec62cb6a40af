"""The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn includes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from harope.lab.data.dataset import Batch, FiniteLabelledDataset

DigitsSplit: TypeAlias = Literal["all", "train", "test"]
TEST_EVERY = 5
"""Every TEST_EVERY-th image is a test image."""


@dataclass(frozen=True, kw_only=True)
class DigitsDataConfig:
    """scikit-learn's digits: nothing to download, small enough for a test."""

    kind: Literal["digits"] = "digits"
    split: DigitsSplit = "all"
    """Which images: every fifth ("test"), the others ("train") or both ("all")."""


class DigitsDataset(FiniteLabelledDataset):
    """Handwritten digits (1, 8, 8), whose values 0..16 are scaled to [-1, 1].

    Source: test part of the UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak
    1998).

    Args:
        seed: Seed of the shuffles.
        split: Which images to use.
    """

    shape = (1, 8, 8)
    num_classes = 10

    def __init__(self, seed: int = 0, split: DigitsSplit = "all"):
        from sklearn.datasets import load_digits

        digits = load_digits()
        is_test = torch.arange(len(digits.target)) % TEST_EVERY == TEST_EVERY - 1
        selected = {"all": is_test | True, "train": ~is_test, "test": is_test}[split]
        images = torch.as_tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
        self._images = images[selected]
        self._labels = torch.as_tensor(digits.target, dtype=torch.int64)[selected]
        super().__init__(len(self._labels), seed)

    def items(self, indices: Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return self._images[rows], self._labels[rows]
