"""ComRoPE (arXiv 2506.03737): rotations by commuting matrices in blocks of channels.

The head is cut into blocks of b channels, and block j turns by the exponential of a learned
skew-symmetric matrix S_j times a number that depends on the position. S_j = Q_j diag(lam J) Q_j^T
has learned eigenvalues lam and a learned orthogonal basis Q_j, so the method is a family of
frequencies, whose wave vectors are parallel within a block, times the basis `block-orthogonal`. The
functions are those of the publication; the parameters, and with them the training, are not: it
learns the entries of S_j.
"""

from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from harope.rope.basis import (
    GeneratorBasis,
    MatrixPair,
    num_skew_entries,
    orthogonal_from_entries,
)
from harope.rope.config import EncodingConfig, OrthogonalMap
from harope.rope.frequencies import Frequencies, check_head_dim, linear_angles, promoted
from harope.rope.positions import as_positions
from harope.rope.scaling import rescale_positions


class ComRoPEAxes(Frequencies):
    """ComRoPE-AP: block j turns by `p_a S_j` with a = j mod n, by angles `lam_i p_a`.

    Initial eigenvalues are those of matrices P - P^T with standard normal entries of P.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position, n.
        num_heads: Heads.
        block_size: Channels per block, b.
    """

    name = "comrope-ap"
    options = (*Frequencies.options, "block_size")
    learned = True

    def __init__(
        self, head_dim: int, num_axes: int, *, num_heads: int = 1, block_size: int = 4
    ) -> None:
        super().__init__()
        check_blocks(head_dim, block_size)
        if head_dim // block_size < num_axes:
            raise ValueError(
                f"head_dim {head_dim} has {head_dim // block_size} blocks of {block_size}, but "
                f"there are {num_axes} axes: use a smaller block_size, or comrope-ld"
            )
        self.head_dim, self.num_axes, self.block_size = head_dim, num_axes, block_size
        self.eigenvalues = nn.Parameter(torch.empty(num_heads, head_dim // 2))
        self.reset_parameters()

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "ComRoPEAxes":
        return cls(head_dim, num_axes, num_heads=num_heads, block_size=config.block_size)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sample new eigenvalues from torch's global generator."""
        self.eigenvalues.copy_(_eigenvalues(self.eigenvalues, self.block_size))

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        positions = rescale_positions(as_positions(positions, self.num_axes), self.scaling)
        block = torch.arange(self.head_dim // 2, device=positions.device) // (self.block_size // 2)
        axes = torch.arange(self.num_axes, device=positions.device)[:, None, None]
        eigenvalues = promoted(self.eigenvalues)
        return linear_angles(positions, eigenvalues * (block % self.num_axes == axes))

    def blocks(self) -> tuple[int, ...]:
        return (self.block_size // 2,) * (self.head_dim // self.block_size)


class ComRoPELinear(Frequencies):
    """ComRoPE-LD: block j turns by `(sum_a th_aj p_a) S_j`, by angles `lam_i sum_a th_aj p_a`.

    The directions th are shared by all heads and start standard normal; initial eigenvalues are
    those of matrices P - P^T with standard normal entries of P.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position.
        num_heads: Heads.
        block_size: Channels per block, b.
    """

    name = "comrope-ld"
    options = (*Frequencies.options, "block_size")
    learned = True

    def __init__(
        self, head_dim: int, num_axes: int, *, num_heads: int = 1, block_size: int = 4
    ) -> None:
        super().__init__()
        check_blocks(head_dim, block_size)
        self.head_dim, self.num_axes, self.block_size = head_dim, num_axes, block_size
        self.eigenvalues = nn.Parameter(torch.empty(num_heads, head_dim // 2))
        self.directions = nn.Parameter(torch.empty(num_axes, head_dim // block_size))
        self.reset_parameters()

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "ComRoPELinear":
        return cls(head_dim, num_axes, num_heads=num_heads, block_size=config.block_size)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sample new eigenvalues and directions from torch's global generator."""
        self.eigenvalues.copy_(_eigenvalues(self.eigenvalues, self.block_size))
        nn.init.normal_(self.directions)

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        positions = rescale_positions(as_positions(positions, self.num_axes), self.scaling)
        directions = promoted(self.directions).repeat_interleave(self.block_size // 2, dim=-1)
        return linear_angles(positions, promoted(self.eigenvalues) * directions[:, None])

    def blocks(self) -> tuple[int, ...]:
        return (self.block_size // 2,) * (self.head_dim // self.block_size)


class BlockOrthogonal(GeneratorBasis):
    """An orthogonal matrix in every block of channels, A = diag(A_1, A_2, ...).

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        block_size: Channels per block.
        orthogonal_map: Map from skew-symmetric generators to the blocks.
    """

    name = "block-orthogonal"
    options = ("per_head", "orthogonal_map", "block_size")

    def __init__(
        self,
        num_matrices: int,
        head_dim: int,
        *,
        block_size: int = 4,
        orthogonal_map: OrthogonalMap = "exp",
    ) -> None:
        super().__init__()
        check_blocks(head_dim, block_size)
        self.head_dim, self.block_size = head_dim, block_size
        self.orthogonal_map = orthogonal_map
        entries = head_dim // block_size * num_skew_entries(block_size)
        self.skew = nn.Parameter(torch.zeros(num_matrices, entries))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "BlockOrthogonal":
        return cls(
            num_heads if config.per_head else 1,
            head_dim,
            block_size=config.block_size,
            orthogonal_map=config.orthogonal_map,
        )

    @property
    def kind(self) -> tuple[Any, ...]:
        return type(self), self.head_dim, self.block_size, self.orthogonal_map

    def tensors(self) -> tuple[Float[Tensor, "matrices _"], ...]:
        return (self.skew,)

    def assemble(self, *tensors: Float[Tensor, "matrices _"]) -> MatrixPair:
        (entries,) = tensors
        count = self.head_dim // self.block_size
        rotations = orthogonal_from_entries(
            entries.unflatten(-1, (count, -1)).flatten(0, 1), self.block_size, self.orthogonal_map
        )
        blocks = rotations.unflatten(0, (-1, count))
        place = torch.eye(count, dtype=blocks.dtype, device=blocks.device)
        # (matrices, blocks, blocks, b, b), zero unless both blocks are the same.
        grid = blocks[:, :, None] * place[..., None, None]
        matrices = grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return matrices, matrices


def check_blocks(head_dim: int, block_size: int) -> None:
    """Raise ValueError unless channels can be split into blocks of pairs.

    Args:
        head_dim: Channels per head.
        block_size: Channels per block.
    """
    check_head_dim(head_dim)
    if block_size < 2 or block_size % 2 or head_dim % block_size:
        raise ValueError(
            f"block_size {block_size} must be even and divide head_dim {head_dim}: use 2, or "
            f"another such number"
        )


def _eigenvalues(like: Tensor, block_size: int) -> Float[Tensor, "heads pairs"]:
    """Sample the eigenvalues of random skew-symmetric blocks."""
    heads, pairs = like.shape
    entries = torch.randn(heads, 2 * pairs // block_size, block_size, block_size)
    # The singular values of a skew-symmetric matrix are its eigenvalues, each of them twice.
    values = torch.linalg.svdvals(entries - entries.mT)[..., ::2]
    return values.flatten(1).to(like)
