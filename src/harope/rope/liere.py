"""LieRE (arXiv 2406.10322): rotations by matrix exponentials that need not commute.

The only rotary encoding here whose scores are not functions of the offset between two tokens: its
generators of several axes do not commute, unless blocks have two channels (docs/theory.md). It is a
baseline, and the dearest one: an exponential per token and block, and per token as many numbers as
there are in all its blocks, where the other encodings have two per pair of channels.
"""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from harope.rope.basis import num_skew_entries, orthogonal_from_entries
from harope.rope.comrope import check_blocks
from harope.rope.config import EncodingConfig
from harope.rope.frequencies import Frequencies, promoted
from harope.rope.positions import as_positions
from harope.rope.rotate import BlockRotationTable
from harope.rope.scaling import rescale_positions


class LieRE(Frequencies):
    """R(p) = exp(sum_a p_a S_a) in every block of channels, S_a skew-symmetric and learned.

    Entries of the S_a above the diagonal start uniform between 0 and 2 pi. All heads share them;
    every layer has its own, where the publication has one set for all layers unless told otherwise.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position.
        block_size: Channels per block: "LieRE_8" has 8.
    """

    name = "liere"
    options = ("block_size",)
    has_angles = False
    learned = True

    def __init__(self, head_dim: int, num_axes: int, *, block_size: int = 8) -> None:
        super().__init__()
        check_blocks(head_dim, block_size)
        self.head_dim, self.num_axes, self.block_size = head_dim, num_axes, block_size
        shape = (num_axes, head_dim // block_size, num_skew_entries(block_size))
        self.generators = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "LieRE":
        return cls(head_dim, num_axes, block_size=config.block_size)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sample new generators from torch's global generator."""
        self.generators.copy_(torch.rand_like(self.generators) * 2 * math.pi)

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        """Raise ValueError: there are no pairs of channels with angles."""
        raise ValueError(
            "LieRE rotates blocks of channels by matrices that do not commute, so its pairs have "
            "no angles: use another encoding for what needs them"
        )

    def table(self, positions: Num[Tensor, "*batch tokens axes"]) -> BlockRotationTable:
        positions = rescale_positions(as_positions(positions, self.num_axes), self.scaling)
        generators = promoted(self.generators)
        # Elementwise products, as matrix products may use TF32 or autocast.
        entries = positions[..., 0, None, None] * generators[0]
        for axis in range(1, self.num_axes):
            entries = entries + positions[..., axis, None, None] * generators[axis]
        blocks = orthogonal_from_entries(entries, self.block_size, "exp").flatten(-3)
        # Positions of a batch need an axis for the heads.
        return BlockRotationTable(blocks.unsqueeze(-3) if blocks.ndim == 3 else blocks)
