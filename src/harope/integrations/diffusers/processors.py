"""Attention processors of diffusers that pass queries and keys through an encoding's seat.

They hold no state: `set_processor` would throw it away.
"""

from typing import NamedTuple

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn
from torch.nn import functional as F

from harope.integrations.base import Model
from harope.integrations.state import AttentionHook, hook_of
from harope.models.dit.attention import is_bare
from harope.rope import RotationTable, fold_projection, normed_rotate_qk
from harope.rope._fast.dispatch import uses_triton
from harope.rope._fast.folded_linear import cheaper_on_weights

Heads = tuple[Tensor, Tensor, Tensor]
Norms = tuple[nn.Module | None, nn.Module | None]


class JointProcessor:
    """Self-attention of the image, and of the text after it where there is one (SD3, DiT)."""

    def __call__(
        self,
        attn: Model,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Outputs of the image's tokens, and of the text's."""
        seat = hook_of(attn)
        q, k, v = _image_heads(attn, hidden_states, seat, seat.table())
        if encoder_hidden_states is not None:
            text = _text_heads(attn, encoder_hidden_states, seat, None)
            q, k, v = (torch.cat(parts, dim=2) for parts in zip((q, k, v), text, strict=True))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
        out = out.transpose(1, 2).flatten(2).to(q.dtype)
        if encoder_hidden_states is None:
            return attn.to_out[1](attn.to_out[0](out))
        image, context = out.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], dim=1)
        if not attn.context_pre_only:
            context = attn.to_add_out(context)
        return attn.to_out[1](attn.to_out[0](image)), context


class FluxProcessor:
    """Attention over the text and the image after it; the rotation is FLUX's own or ours."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Model,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Outputs of the image's tokens, and of the text's where they come apart."""
        seat = hook_of(attn)
        table, stock = seat.table(), image_rotary_emb is not None
        if image_rotary_emb is not None and uses_triton(hidden_states):
            # FLUX's own has every value twice, for both channels of a pair.
            table, stock = RotationTable(*(part[:, ::2] for part in image_rotary_emb)), False
        if encoder_hidden_states is None:
            q, k, v = _image_heads(attn, hidden_states, seat, table)
        else:
            sizes = [encoder_hidden_states.shape[1], hidden_states.shape[1]]
            text_table, image_table = _split_table(table, sizes)
            text = _text_heads(attn, encoder_hidden_states, seat, text_table)
            image = _image_heads(attn, hidden_states, seat, image_table)
            q, k, v = (torch.cat(parts, dim=2) for parts in zip(text, image, strict=True))
        if stock:
            # By FLUX's own function, so that a basis of identities changes no bit.
            q, k = (apply_rotary_emb(x, image_rotary_emb, sequence_dim=2) for x in (q, k))
        out = dispatch_attention_fn(
            *(x.transpose(1, 2) for x in (q, k, v)),
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        out = out.flatten(2).to(q.dtype)
        if encoder_hidden_states is None:
            return out
        of_text, of_image = out.split(sizes, dim=1)
        of_image = attn.to_out[1](attn.to_out[0](of_image.contiguous()))
        return of_image, attn.to_add_out(of_text.contiguous())


def _split_table(
    table: RotationTable | None, sizes: list[int]
) -> tuple[RotationTable | None, RotationTable | None]:
    if table is None:
        return None, None
    cos, sin = (part.split(sizes, dim=-2) for part in table)
    return RotationTable(cos[0], sin[0]), RotationTable(cos[1], sin[1])


def _image_heads(attn: Model, x: Tensor, seat: AttentionHook, table: RotationTable | None) -> Heads:
    norms = attn.norm_q, attn.norm_k
    if getattr(attn, "fused_projections", False):
        return _normed(attn.to_qkv(x).chunk(3, dim=-1), norms, seat, table)
    return _projected(x, (attn.to_q, attn.to_k, attn.to_v), norms, seat, table)


def _text_heads(attn: Model, x: Tensor, seat: AttentionHook, table: RotationTable | None) -> Heads:
    norms = attn.norm_added_q, attn.norm_added_k
    if getattr(attn, "fused_projections", False):
        return _normed(attn.to_added_qkv(x).chunk(3, dim=-1), norms, seat, table)
    linears = attn.add_q_proj, attn.add_k_proj, attn.add_v_proj
    return _projected(x, linears, norms, seat, table)


def _projected(
    x: Tensor,
    linears: tuple[Model, Model, Model],
    norms: Norms,
    seat: AttentionHook,
    table: RotationTable | None,
) -> Heads:
    """R A q and R A k, and values, (batch, heads, tokens, head_dim).

    Bare projections take the matrices in their weights where that is less work.
    """
    matrices = seat.matrices()
    bare = norms == (None, None) and all(map(is_bare, linears[:2]))
    if matrices is None or not bare or not cheaper_on_weights(x.shape[0] * x.shape[1], x.shape[2]):
        return _normed(tuple(linear(x) for linear in linears), norms, seat, table)
    heads = seat.encoding.num_heads
    q, k = (
        F.linear(x, *fold_projection(linear.weight, linear.bias, matrix, heads))
        for linear, matrix in zip(linears, matrices, strict=False)
    )
    q, k, v = (_split(part, heads) for part in (q, k, linears[2](x)))
    return *seat.rotate(q, k, table), v


def _normed(
    parts: tuple[Tensor, ...], norms: Norms, seat: AttentionHook, table: RotationTable | None
) -> Heads:
    """Norm, matrix and rotation of what the projections give."""
    q, k, v = (_split(part, seat.encoding.num_heads) for part in parts)
    settings = _rms_settings(norms)
    if settings is not None and table is not None and uses_triton(q):
        weights, eps = settings
        q, k = normed_rotate_qk(
            q, k, table, seat.matrices(), weights=weights, eps=eps, layout=seat.layout
        )
        return q, k, v
    q, k = (x if norm is None else norm(x) for x, norm in zip((q, k), norms, strict=True))
    return *seat.rotate(*seat.map(q, k), table), v


class _RMSSettings(NamedTuple):
    weights: tuple[Tensor, Tensor]
    eps: float


def _rms_settings(norms: Norms) -> _RMSSettings | None:
    """What one launch needs to know, where both are plain RMS norms of the same eps."""
    q, k = norms
    if not isinstance(q, RMSNorm | nn.RMSNorm) or not isinstance(k, RMSNorm | nn.RMSNorm):
        return None
    plain = getattr(q, "bias", None) is None and getattr(k, "bias", None) is None
    if not plain or q.weight is None or k.weight is None or q.eps is None or q.eps != k.eps:
        return None
    return _RMSSettings((q.weight, k.weight), float(q.eps))


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
