"""Bases: the matrices A_q and A_k that each head applies to its queries and keys.

    pairing "inverse"   A_q = M, A_k = M^-T    HARoPE as published at CVPR 2026 and its released
                                               weights, with M = A^T there; score q^T A R A^-1 k,
                                               which is q . k at zero offset
    pairing "same"      A_q = A_k = A          arXiv 2510.10489v1, equation 7: score q^T A^T R A k

All learned bases are initialised to the identity, so that a model starts exactly at its rotary
baseline. Matrices are computed in float32 or float64 whatever the dtype of the parameters, and
outside autocast.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from harope._utils.argument_checks import check_integer, check_tensor
from harope.rope._fast.execution import without_autocast
from harope.rope._fast.exponential import skew_exp, widen_large
from harope.rope._fast.precision import exact_matmul
from harope.rope.config import Component, EncodingConfig, OrthogonalMap, Pairing

MatrixPair = tuple[
    Float[Tensor, "*sampled matrices head_dim head_dim"],
    Float[Tensor, "*sampled matrices head_dim head_dim"],
]

# log(e - 1), where softplus is 1.
SOFTPLUS_ONE = 0.541324854612918
LINEAR_BELOW = -40.0


class Basis(nn.Module, Component):
    """Interface of all bases: the pair (A_q, A_k)."""

    part = "basis"
    needs_condition: ClassVar[bool] = False
    """Whether `forward` takes the condition vector of every sample."""

    @abstractmethod
    def forward(self) -> MatrixPair | None:
        """Compute (A_q, A_k), each (heads or 1, head_dim, head_dim); None for the identity."""

    def raw_scales(self) -> Float[Tensor, "matrices head_dim"] | None:
        """Return the parameters that softplus maps to singular values of A_q; None without such."""
        return None

    def regularization(self) -> Float[Tensor, ""] | None:
        """Return the mean of log(s)^2 over the singular values s; None for bases without s."""
        raw = self.raw_scales()
        return None if raw is None else scale_penalty(raw)

    def singular_values(self) -> Float[Tensor, "matrices head_dim"] | None:
        """Return the singular values of A_q, unsorted; None for bases without such parameters."""
        raw = self.raw_scales()
        return None if raw is None else positive_scale(raw)


class Identity(Basis):
    """The identity, A = I: heads rotate in the planes of plain rotary encodings."""

    name = "identity"

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Identity":
        return cls()

    def forward(self) -> MatrixPair | None:
        return None


class Diagonal(Basis):
    """A = diag(s) with s = softplus(raw) > 0.

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        pairing: Relation of A_k to A_q.
    """

    name = "diagonal"
    options = ("per_head", "pairing")

    def __init__(self, num_matrices: int, head_dim: int, *, pairing: Pairing = "inverse") -> None:
        super().__init__()
        self.pairing = pairing
        self.raw_scale = nn.Parameter(torch.full((num_matrices, head_dim), SOFTPLUS_ONE))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Diagonal":
        return cls(num_heads if config.per_head else 1, head_dim, pairing=config.pairing)

    def forward(self) -> MatrixPair | None:
        scale = positive_scale(self.raw_scale)
        return scale.diag_embed(), (1 / scale if self.pairing == "inverse" else scale).diag_embed()

    def raw_scales(self) -> Float[Tensor, "matrices head_dim"] | None:
        return self.raw_scale


class GeneratorBasis(Basis):
    """A basis that is built from rotations, which are given by skew-symmetric generators.

    Models compute the bases of all layers as one, from their concatenated tensors
    (`batched_matrices`), because each exponential is a long row of small operations.
    """

    head_dim: int
    orthogonal_map: OrthogonalMap

    @property
    @abstractmethod
    def kind(self) -> tuple[Any, ...]:
        """What determines `assemble`: bases of equal kinds can be computed as one."""

    @abstractmethod
    def tensors(self) -> tuple[Float[Tensor, "matrices _"], ...]:
        """Return the parameters, one row per matrix in each."""

    @abstractmethod
    def assemble(self, *tensors: Float[Tensor, "matrices _"]) -> MatrixPair:
        """Compute (A_q, A_k) from the tensors of this basis, or of several of its kind.

        Args:
            tensors: What `tensors` returns, concatenated over the bases.
        """

    def forward(self) -> MatrixPair | None:
        return self.assemble(*self.tensors())


class Orthogonal(GeneratorBasis):
    """A = exp(S) or (I - S)(I + S)^-1 with S skew-symmetric.

    As A^-T = A, both pairings are the same.

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        orthogonal_map: Map from S to A.
    """

    name = "orthogonal"
    options = ("per_head", "orthogonal_map")

    def __init__(
        self, num_matrices: int, head_dim: int, *, orthogonal_map: OrthogonalMap = "exp"
    ) -> None:
        super().__init__()
        self.head_dim, self.orthogonal_map = head_dim, orthogonal_map
        self.skew = nn.Parameter(torch.zeros(num_matrices, num_skew_entries(head_dim)))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Orthogonal":
        num_matrices = num_heads if config.per_head else 1
        return cls(num_matrices, head_dim, orthogonal_map=config.orthogonal_map)

    @property
    def kind(self) -> tuple[Any, ...]:
        return type(self), self.head_dim, self.orthogonal_map

    def tensors(self) -> tuple[Float[Tensor, "matrices _"], ...]:
        return (self.skew,)

    def assemble(self, *tensors: Float[Tensor, "matrices _"]) -> MatrixPair:
        (entries,) = tensors
        rotations = orthogonal_from_entries(entries, self.head_dim, self.orthogonal_map)
        return rotations, rotations


class SVD(GeneratorBasis):
    """A = U diag(s) V^T with U, V orthogonal and s = softplus(raw) > 0 (HARoPE, equation 6).

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        pairing: Relation of A_k to A_q.
        orthogonal_map: Map from skew-symmetric generators to U and V.
    """

    name = "svd"
    options = ("per_head", "pairing", "orthogonal_map")

    def __init__(
        self,
        num_matrices: int,
        head_dim: int,
        *,
        pairing: Pairing = "inverse",
        orthogonal_map: OrthogonalMap = "exp",
    ) -> None:
        super().__init__()
        self.head_dim, self.pairing, self.orthogonal_map = head_dim, pairing, orthogonal_map
        entries = num_skew_entries(head_dim)
        self.skew_u = nn.Parameter(torch.zeros(num_matrices, entries))
        self.skew_v = nn.Parameter(torch.zeros(num_matrices, entries))
        self.raw_scale = nn.Parameter(torch.full((num_matrices, head_dim), SOFTPLUS_ONE))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "SVD":
        return cls(
            num_heads if config.per_head else 1,
            head_dim,
            pairing=config.pairing,
            orthogonal_map=config.orthogonal_map,
        )

    @property
    def kind(self) -> tuple[Any, ...]:
        return type(self), self.head_dim, self.orthogonal_map, self.pairing

    def tensors(self) -> tuple[Float[Tensor, "matrices _"], ...]:
        return self.skew_u, self.skew_v, self.raw_scale

    def assemble(self, *tensors: Float[Tensor, "matrices _"]) -> MatrixPair:
        skew_u, skew_v, raw_scale = tensors
        entries = torch.cat([skew_u, skew_v])
        u, v = orthogonal_from_entries(entries, self.head_dim, self.orthogonal_map).chunk(2)
        scale = positive_scale(raw_scale)[:, None]
        with without_autocast(u):
            matrix = exact_matmul(u * scale, v.mT)
            # (U diag(s) V^T)^-T = U diag(1/s) V^T
            return matrix, exact_matmul(u / scale, v.mT) if self.pairing == "inverse" else matrix

    def raw_scales(self) -> Float[Tensor, "matrices head_dim"] | None:
        return self.raw_scale


class Free(Basis):
    """An unconstrained matrix A ("normal" in the ablation of the HARoPE paper).

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        pairing: Relation of A_k to A_q.
    """

    name = "free"
    options = ("per_head", "pairing")

    def __init__(self, num_matrices: int, head_dim: int, *, pairing: Pairing = "inverse") -> None:
        super().__init__()
        self.pairing = pairing
        self.matrix = nn.Parameter(torch.eye(head_dim).repeat(num_matrices, 1, 1))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Free":
        return cls(num_heads if config.per_head else 1, head_dim, pairing=config.pairing)

    def forward(self) -> MatrixPair | None:
        matrix = self.matrix.to(torch.promote_types(self.matrix.dtype, torch.float32))
        with without_autocast(matrix):
            if self.pairing == "same":
                return matrix, matrix
            # A GPU would have to wait to learn whether a matrix is singular.
            return matrix, torch.linalg.inv_ex(matrix, check_errors=matrix.is_cpu).inverse.mT


def positive_scale(
    raw: Float[Tensor, "*layers matrices head_dim"],
) -> Float[Tensor, "*layers matrices head_dim"]:
    """Return the singular values s = softplus(raw), in float32 or float64.

    Args:
        raw: Parameters.
    """
    return F.softplus(raw.to(torch.promote_types(raw.dtype, torch.float32)))


def scale_penalty(raw: Float[Tensor, "*layers matrices head_dim"]) -> Float[Tensor, ""]:
    """Return the mean of log(s)^2 of s = softplus(raw), finite where s underflows.

    log(softplus(x)) is x + O(exp(x)); below LINEAR_BELOW the remainder is less than a rounding.

    Args:
        raw: Parameters of the singular values.
    """
    raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
    # The clamp keeps the derivative of the branch that is not taken finite.
    logarithm = positive_scale(raw.clamp(min=LINEAR_BELOW)).log()
    return torch.where(raw <= LINEAR_BELOW, raw, logarithm).square().mean()


def num_skew_entries(dim: int) -> int:
    """Return the number of free entries of a skew-symmetric (dim, dim) matrix.

    Args:
        dim: Rows of the matrix.
    """
    return dim * (dim - 1) // 2


def skew_matrix(
    entries: Float[Tensor, "*batch entries"], dim: int
) -> Float[Tensor, "*batch dim dim"]:
    """Build the skew-symmetric matrix with the given entries above its diagonal, row by row.

    Args:
        entries: Entries above the diagonal, row by row.
        dim: Rows of the matrix.
    """
    row, column = torch.triu_indices(dim, dim, 1, device=entries.device)
    upper = entries.new_zeros(*entries.shape[:-1], dim * dim)
    upper = upper.index_copy(-1, row * dim + column, entries).unflatten(-1, (dim, dim))
    return upper - upper.mT


def skew_entries(matrix: Float[Tensor, "*batch dim dim"]) -> Float[Tensor, "*batch entries"]:
    """Return the entries above the diagonal of (A - A^T) / 2; the inverse of `skew_matrix`.

    Args:
        matrix: Any square matrices.
    """
    dim = matrix.shape[-1]
    row, column = torch.triu_indices(dim, dim, 1, device=matrix.device)
    return ((matrix - matrix.mT) / 2)[..., row, column]


def orthogonal_from_entries(
    entries: Float[Tensor, "*batch entries"], dim: int, orthogonal_map: OrthogonalMap
) -> Float[Tensor, "*batch dim dim"]:
    """Compute `exp(S)` or the Cayley map `(I - S)(I + S)^-1` of skew-symmetric matrices S.

    Both are rotations. The Cayley map needs one linear solve and cannot reach half turns.

    Args:
        entries: Entries of S above its diagonal, row by row.
        dim: Rows of S.
        orthogonal_map: "exp" or "cayley".

    Returns:
        Rotations in float32 or float64, orthogonal to about 1e-5 in float32; NaN for entries that
        are not finite.

    Raises:
        ValueError: If the norm of a generator is finite but larger than 1e9, where not even float64
            is accurate.
    """
    entries = entries.to(torch.promote_types(entries.dtype, torch.float32))
    with without_autocast(entries):
        skew = skew_matrix(entries, dim)
        if orthogonal_map == "exp":
            return skew_exp(skew)
        wide = widen_large(skew)
        eye = torch.eye(dim, dtype=wide.dtype, device=wide.device)
        # I - S and (I + S)^-1 commute, so the solve can come from the left. I + S is invertible,
        # and looking whether it is would make a GPU wait.
        return torch.linalg.solve_ex(eye + wide, eye - wide).result.to(skew)


def apply_matrices(
    x: Float[Tensor, "*batch heads tokens head_dim"],
    matrices: Float[Tensor, "*shape head_dim head_dim"],
) -> Float[Tensor, "*batch heads tokens head_dim"]:
    """Compute A_h x for every token of head h.

    Args:
        x: Queries or keys.
        matrices: A_h, per head or one for all heads.

    Returns:
        The result in the dtype of x, computed in float32 or float64.

    Raises:
        ValueError: If the matrices are for other heads or channels.
    """
    check_tensor("x", x)
    check_tensor("matrices", matrices)
    fits = matrices.shape[-2:] == 2 * x.shape[-1:]
    if not fits or matrices.shape[-3:-2] not in ((), (1,), x.shape[-3:-2]):
        raise ValueError(
            f"x has the shape {tuple(x.shape)}, which does not fit matrices of the shape "
            f"{tuple(matrices.shape)}: pass tokens (..., heads, tokens, head_dim) of their heads"
        )
    wide = torch.promote_types(torch.promote_types(x.dtype, matrices.dtype), torch.float32)
    with without_autocast(x):
        return (x.to(wide) @ matrices.to(x.device, wide).mT).to(x.dtype)


def fold_projection(
    weight: Float[Tensor, "channels width"],
    bias: Float[Tensor, " channels"] | None,
    matrices: Float[Tensor, "heads head_dim head_dim"],
    num_heads: int | None = None,
) -> tuple[Float[Tensor, "channels width"], Float[Tensor, " channels"] | None]:
    """Fold A into a projection: A_h (W x + b) = (A_h W_h) x + A_h b_h for every head h.

    This is possible only if nothing, such as QK-norm, comes between projection and rotation.

    Args:
        weight: Weight of a Linear with heads * head_dim rows, head after head.
        bias: Its bias, or None.
        matrices: A_h, one per head, or a single one for all heads.
        num_heads: Heads, needed only to check a shared matrix; None derives them from the rows.

    Returns:
        The folded weight and bias in their own dtypes, computed in float32 or float64;
        differentiable.

    Raises:
        ValueError: If the weight does not have heads * head_dim rows, or the bias as many entries.
    """
    check_tensor("weight", weight, 2)
    check_tensor("matrices", matrices, 3)
    if num_heads is not None:
        check_integer("num_heads", num_heads, 1)
    head_dim = matrices.shape[-1]
    heads = num_heads or (len(matrices) if len(matrices) > 1 else len(weight) // head_dim)
    if len(weight) != heads * head_dim or len(matrices) not in (1, heads):
        raise ValueError(
            f"weight has {len(weight)} rows but matrices of shape {tuple(matrices.shape)} need "
            f"{heads} x {head_dim}: pass the projection of the same heads"
        )
    if bias is not None:
        check_tensor("bias", bias, 1)
        if len(bias) != len(weight):
            raise ValueError(f"bias has {len(bias)} entries but weight has {len(weight)} rows")
    wide = torch.promote_types(torch.promote_types(weight.dtype, matrices.dtype), torch.float32)
    with without_autocast(weight):
        matrices = matrices.to(weight.device, wide).expand(heads, -1, -1)
        rows = weight.to(wide).unflatten(0, (heads, head_dim))
        folded = exact_matmul(matrices, rows).flatten(0, 1)
        if bias is None:
            return folded.to(weight.dtype), None
        moved = exact_matmul(matrices, bias.to(wide).unflatten(0, (heads, head_dim, 1))).flatten()
        return folded.to(weight.dtype), moved.to(bias.dtype)
