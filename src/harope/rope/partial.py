"""Partial rotary embeddings: a fraction of the pairs is rotated, the others carry content alone."""

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional as F

from harope.rope.config import RotarySpectrum
from harope.rope.frequencies import Frequencies
from harope.rope.scaling import Scaling


class PartialFrequencies(Frequencies):
    """Angles of another family for a fraction of the pairs, and zero for the others.

    own: the family is that of a head with the rotated channels alone, which come first (GPT-NeoX).
    full: the family is that of the whole head, of which the first pairs of every block, those with
    the highest frequencies, are rotated.

    Args:
        family: Frequencies of the rotated pairs ("own") or of all ("full").
        head_dim: Channels per head.
        fraction: Share of the pairs that are rotated.
        spectrum: "own" or "full".
    """

    def __init__(
        self, family: Frequencies, head_dim: int, *, fraction: float, spectrum: RotarySpectrum
    ) -> None:
        super().__init__()
        self.family, self.head_dim, self.num_axes = family, head_dim, family.num_axes
        self.fraction, self.spectrum = fraction, spectrum

    @property
    def learned(self) -> bool:
        return self.family.learned

    def set_scaling(self, scaling: Scaling | None) -> None:
        super().set_scaling(scaling)
        self.family.set_scaling(scaling)

    def check_scaling(self, scaling: Scaling) -> None:
        self.family.check_scaling(scaling)

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        angles: Tensor = self.family(positions)
        if self.spectrum == "own":
            return F.pad(angles, (0, self.head_dim // 2 - angles.shape[-1]))
        kept = [
            torch.arange(pairs, device=angles.device) < int(self.fraction * pairs)
            for pairs in self.family.blocks()
        ]
        return angles * torch.cat(kept)


def rotated_channels(head_dim: int, fraction: float) -> int:
    """Return how many channels of a head are rotated.

    Args:
        head_dim: Channels per head.
        fraction: Share of them that is rotated.

    Raises:
        ValueError: If that is no pair.
    """
    channels = int(fraction * head_dim)
    if channels < 2 or channels % 2:
        raise ValueError(
            f"rotary_fraction {fraction} of head_dim {head_dim} is {channels} channels, which are "
            f"no pairs: choose a fraction that gives an even number"
        )
    return channels
