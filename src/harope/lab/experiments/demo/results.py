"""Results of the parts of the demo, which are stored as JSON and shown on the page."""

import statistics
from dataclasses import dataclass

import torch

from harope.lab.metrics.intervals import Mean, Scores


@dataclass(frozen=True)
class Pictures:
    """Samples of the released model before and after HARoPE was installed in it."""

    identical: bool
    """Whether all values are equal, bit for bit."""


@dataclass(frozen=True)
class Matrices:
    """What the training of the matrices changed."""

    parameters: int
    """Trained parameters, those of the matrices."""
    all_parameters: int
    """All parameters of the model."""
    loss_before: float
    """Mean loss on held-out scenes with A = I."""
    loss_after: float
    """Mean loss on the same scenes, at the same times and noises, after the training."""
    difference: Mean
    """Mean of the differences of each scene's loss."""
    distance: float
    """Median over the heads of |A - I| / |I|."""


@dataclass(frozen=True)
class HeadChange:
    """How far a head looks before and after the training."""

    layer: int
    """Layer of the head, from 0."""
    head: int
    """Head of the layer, from 0."""
    before: float
    """Mean attention distance in tokens with A = I."""
    after: float
    """Mean attention distance in tokens after the training."""


@dataclass(frozen=True)
class Heads:
    """Receptive fields before and after the training of the matrices."""

    shown: list[HeadChange]
    """The heads that changed most, first in each layer of which one is shown."""
    moved: float
    """Median over all heads of the change of the mean attention distance in tokens."""


@dataclass(frozen=True)
class Costs:
    """Times of a forward pass, measured in turns."""

    batch_size: int
    """Images of a forward pass."""
    seconds: dict[str, list[float]]
    """Times in seconds: of the released model ("rope"), with matrices ("harope"), folded
    ("folded")."""
    rounding: float
    """Largest difference between the outputs of the model before and after folding."""

    def median(self, name: str) -> float:
        """Return the median time of a model.

        Args:
            name: A key of `seconds`.

        Returns:
            Seconds.
        """
        return statistics.median(self.seconds[name])

    def ratios(self, name: str) -> tuple[float, float, float]:
        """Return quartiles of a model's time over that of the released model in the same turn.

        Args:
            name: A key of `seconds`.

        Returns:
            Lower quartile, median and upper quartile over the turns.
        """
        pairs = zip(self.seconds[name], self.seconds["rope"], strict=True)
        ratios = torch.tensor([mine / base for mine, base in pairs])
        low, middle, high = ratios.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        return low, middle, high


@dataclass(frozen=True)
class Digits:
    """The course of the training of a small model on digits."""

    steps: list[int]
    """Steps after which samples are shown."""
    seconds: list[float]
    """Seconds from the start of the training until each of them."""
    losses: list[float]
    """Training loss before each of them."""
    parameters: int
    """Parameters of the model."""


@dataclass(frozen=True)
class ReleasedScores:
    """Scores of the samples of the two released models."""

    columns: dict[str, Scores]
    """Scores by encoding."""
