"""Layers of a DiT: attention with a positional encoding, MLP, and the blocks made of them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from harope.models.dit.config import DiTConfig
from harope.rope import AnyRotationTable, PositionalEncoding, RotaryEncoding, apply_matrices
from harope.rope._fast.dispatch import normed_rotate_qk
from harope.rope._fast.folded_linear import (
    FoldedProjection,
    cheaper_on_weights,
    fold_layers,
    folded_linear,
    folds_layers_together,
    is_bare,
)
from harope.rope.basis import MatrixPair
from harope.rope.encoding import stacked_matrices


class PositionInputs(NamedTuple):
    """Positions of the tokens, and what a model computed from them for all layers.

    A layer computes any field that is None from its own encoding. Under FSDP this is required: a
    layer's parameters are only unsharded inside its own forward.
    """

    positions: Float[Tensor, "*batch tokens axes"]
    table: AnyRotationTable | None = None
    matrices: MatrixPair | None = None
    condition: Tensor | None = None
    """Condition of every sample, for encodings whose matrices depend on it."""
    projection: FoldedProjection | None = None
    """The layer's projection with the matrices folded in, which are then not needed."""


QK_NORM_EPS = 1e-6
"""Added to the mean square of a head's channels, as in FLUX and SD3.5."""


class Attention(nn.Module):
    """Multi-head self-attention with a positional encoding, which is its attribute `harope`.

    Args:
        width: Channels of the tokens.
        encoding: Positional encoding of queries and keys.
        qk_norm: Whether queries and keys pass an RMS norm over the channels of each head, with
            learned weights, before the encoding, as in FLUX and SD3.5.
    """

    def __init__(self, width: int, encoding: PositionalEncoding, *, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = encoding.num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(encoding.head_dim, eps=QK_NORM_EPS) if qk_norm else None
        self.k_norm = nn.RMSNorm(encoding.head_dim, eps=QK_NORM_EPS) if qk_norm else None
        self.harope = encoding
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch tokens width"], inputs: PositionInputs
    ) -> Float[Tensor, "batch tokens width"]:
        """Apply attention over all tokens, with positions encoded into queries and keys.

        Args:
            x: Tokens.
            inputs: Their positions, and what the model computed from them for all layers.
        """
        table = inputs.table or self.harope.rotation_table(inputs.positions)
        if inputs.projection is not None:
            q, k, v = self._split(F.linear(x, *inputs.projection))
            q, k = self.harope.rotate(q, k, table)
        elif self.q_norm is not None and self.k_norm is not None:
            q, k, v = self._split(self.qkv(x))
            matrices = self._matrices(inputs)
            q, k = self._normed(q, k, self.q_norm, self.k_norm, table, matrices)
        else:
            q, k, v = self._project(x, self._matrices(inputs))
            q, k = self.harope.rotate(q, k, table)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _matrices(self, inputs: PositionInputs) -> MatrixPair | None:
        return inputs.matrices or self.harope.matrices(inputs.condition)

    def _normed(
        self,
        q: Tensor,
        k: Tensor,
        q_norm: nn.RMSNorm,
        k_norm: nn.RMSNorm,
        table: AnyRotationTable | None,
        matrices: MatrixPair | None,
    ) -> tuple[Tensor, Tensor]:
        """Apply norm, basis and rotation to queries and keys."""
        encoding, weights = self.harope.unwrapped, (q_norm.weight, k_norm.weight)
        layout = encoding.layout if isinstance(encoding, RotaryEncoding) else "interleaved"
        return normed_rotate_qk(
            q, k, table, matrices, weights=weights, eps=QK_NORM_EPS, layout=layout
        )

    def _project(self, x: Tensor, matrices: MatrixPair | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return q and k with the basis applied, and v, each (batch, heads, tokens, head_dim)."""
        if matrices is not None and self._folds(x) and not self.harope.needs_condition:
            linear = self.qkv
            return self._split(
                folded_linear(x, linear.weight, linear.bias, matrices, self.num_heads)
            )
        q, k, v = self._split(self.qkv(x))
        if matrices is not None:
            q, k = apply_matrices(q, matrices[0]), apply_matrices(k, matrices[1])
        return q, k, v

    def _folds(self, x: Tensor) -> bool:
        """Return whether A is folded into the weights for these tokens."""
        return cheaper_on_weights(x.shape[0] * x.shape[1], x.shape[2]) and self.is_bare

    @property
    def is_bare(self) -> bool:
        """Whether the projection is W x + b and nothing else, so that the basis folds into it."""
        return is_bare(self.qkv) and self.q_norm is None

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Unbound before the axes are exchanged: the gradients of q, k and v are then written once,
        # in the order of the projection's channels.
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def folded_projections(
    attentions: Sequence[Attention], num_tokens: int
) -> list[FoldedProjection] | None:
    """Fold the bases of all layers into their projections at once.

    Args:
        attentions: Those of all layers.
        num_tokens: Tokens of the whole batch.

    Returns:
        One projection per layer; None if layers had better fold or apply their own matrices.
    """
    first = attentions[0].qkv
    if not (folds_layers_together() and cheaper_on_weights(num_tokens, first.in_features)):
        return None
    if not all(attention.is_bare for attention in attentions):
        return None
    matrices = stacked_matrices([attention.harope for attention in attentions])
    if matrices is None:
        return None
    linears = [attention.qkv for attention in attentions]
    weights, biases = [part.weight for part in linears], [part.bias for part in linears]
    return fold_layers(weights, biases, matrices, attentions[0].num_heads)


class Block(nn.Module):
    """Transformer block: attention and MLP, each modulated and gated by the condition (adaLN-Zero).

    Args:
        config: Sizes of the model.
        encoding: Positional encoding of the block's attention.
    """

    def __init__(self, config: DiTConfig, encoding: PositionalEncoding) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(config.width, encoding, qk_norm=config.qk_norm)
        self.norm2 = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.mlp = MLP(config.width, int(config.width * config.mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 6 * config.width))

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        condition: Float[Tensor, "batch width"],
        inputs: PositionInputs,
    ) -> Float[Tensor, "batch tokens width"]:
        """Apply attention and MLP to the tokens.

        Args:
            x: Tokens.
            condition: Embedding of time and class.
            inputs: Positions of the tokens, and what the model computed from them for all blocks.
        """
        modulation = self.adaLN_modulation(condition)[:, None]
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1), inputs)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


class MLP(nn.Module):
    """Two linear layers with the tanh approximation of GELU in between.

    Args:
        width: Channels of the tokens.
        hidden: Channels between the two layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Apply the MLP to every token.

        Args:
            x: Tokens.
        """
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class FinalLayer(nn.Module):
    """Modulated projection of tokens to patches of the prediction.

    Args:
        config: Width, patch size and output channels.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(config.width, config.patch_size**2 * config.out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 2 * config.width))

    def forward(
        self, x: Float[Tensor, "batch tokens width"], condition: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch tokens patch"]:
        """Project each token to a patch, flattened in the order (dy, dx, channel).

        Args:
            x: Tokens.
            condition: Embedding of time and class.
        """
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


def modulate(
    x: Float[Tensor, "batch tokens width"],
    shift: Float[Tensor, "batch 1 width"],
    scale: Float[Tensor, "batch 1 width"],
) -> Float[Tensor, "batch tokens width"]:
    """Compute x (1 + scale) + shift.

    Args:
        x: Tokens.
        shift: What is added to each channel.
        scale: What each channel is scaled by, minus 1.
    """
    return torch.addcmul(shift, x, 1 + scale)
