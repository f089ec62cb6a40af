"""Attention processors for diffusers that apply an attention's encoding to queries and keys.

They hold no parameters: `set_processor` discards those of a previous processor.
"""

from typing import NamedTuple

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn
from torch.nn import functional as F

from harope.integrations.attention import AttentionHook, check_fit, hook_of
from harope.integrations.forward import Model, Positions
from harope.rope import AnyRotationTable, fold_projection, normed_rotate_qk
from harope.rope._fast.dispatch import uses_triton
from harope.rope._fast.folded_linear import cheaper_on_weights, is_bare

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
        positions: Positions | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the attention.

        Args:
            attn: The attention.
            hidden_states: Tokens of the image, (batch, tokens, width).
            encoder_hidden_states: Tokens of the text, or None.
            attention_mask: As in `scaled_dot_product_attention`.
            positions: Positions of the image tokens; None for those of the forward.

        Returns:
            The outputs of the image tokens, and of the text tokens if there are any.
        """
        hook = hook_of(attn)
        q, k, v = _image_heads(attn, hidden_states, hook, hook.table_of(positions))
        if encoder_hidden_states is not None:
            text = _text_heads(attn, encoder_hidden_states, hook, None)
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
    """Attention over the text and the image after it, rotated by the encoding."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Model,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Positions | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the attention.

        Args:
            attn: The attention.
            hidden_states: Tokens, (batch, tokens, width): of the image, in single blocks of both.
            encoder_hidden_states: Tokens of the text, in double blocks.
            attention_mask: As in `scaled_dot_product_attention`.
            image_rotary_emb: Positions of all tokens, in the place of FLUX's table (see
                `PositionsAsTable`); None for those of the forward.

        Returns:
            The outputs: joint in single blocks, image and text apart in double blocks.
        """
        hook = hook_of(attn)
        table = hook.table_of(image_rotary_emb)
        num_tokens = hidden_states.shape[1]
        if encoder_hidden_states is not None:
            num_tokens += encoder_hidden_states.shape[1]
        if table is not None:
            check_fit(table, num_tokens, len(hidden_states))
        if encoder_hidden_states is None:
            q, k, v = _image_heads(attn, hidden_states, hook, table)
        else:
            sizes = [encoder_hidden_states.shape[1], hidden_states.shape[1]]
            text_table, image_table = _split_table(table, sizes)
            text = _text_heads(attn, encoder_hidden_states, hook, text_table)
            image = _image_heads(attn, hidden_states, hook, image_table)
            q, k, v = (torch.cat(parts, dim=2) for parts in zip(text, image, strict=True))
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
    table: AnyRotationTable | None, sizes: list[int]
) -> tuple[AnyRotationTable | None, AnyRotationTable | None]:
    if table is None:
        return None, None
    text, image = zip(*(part.split(sizes, dim=-2) for part in table), strict=True)
    return type(table)(*text), type(table)(*image)


def _image_heads(
    attn: Model, x: Tensor, hook: AttentionHook, table: AnyRotationTable | None
) -> Heads:
    norms = attn.norm_q, attn.norm_k
    if getattr(attn, "fused_projections", False):
        return _normed(attn.to_qkv(x).chunk(3, dim=-1), norms, hook, table)
    return _projected(x, (attn.to_q, attn.to_k, attn.to_v), norms, hook, table)


def _text_heads(
    attn: Model, x: Tensor, hook: AttentionHook, table: AnyRotationTable | None
) -> Heads:
    norms = attn.norm_added_q, attn.norm_added_k
    if getattr(attn, "fused_projections", False):
        return _normed(attn.to_added_qkv(x).chunk(3, dim=-1), norms, hook, table)
    linears = attn.add_q_proj, attn.add_k_proj, attn.add_v_proj
    return _projected(x, linears, norms, hook, table)


def _projected(
    x: Tensor,
    linears: tuple[Model, Model, Model],
    norms: Norms,
    hook: AttentionHook,
    table: AnyRotationTable | None,
) -> Heads:
    """Return R A q, R A k and v, each (batch, heads, tokens, head_dim).

    A is folded into the weights of bare projections if that is cheaper.
    """
    matrices = hook.matrices()
    bare = norms == (None, None) and all(map(is_bare, linears[:2]))
    if matrices is None or not bare or not cheaper_on_weights(x.shape[0] * x.shape[1], x.shape[2]):
        return _normed(tuple(linear(x) for linear in linears), norms, hook, table)
    heads = hook.encoding.num_heads
    q, k = (
        F.linear(x, *fold_projection(linear.weight, linear.bias, matrix, heads))
        for linear, matrix in zip(linears, matrices, strict=False)
    )
    q, k, v = (_split(part, heads) for part in (q, k, linears[2](x)))
    return *hook.rotate(q, k, table), v


def _normed(
    parts: tuple[Tensor, ...], norms: Norms, hook: AttentionHook, table: AnyRotationTable | None
) -> Heads:
    """Apply norm, matrices and rotation to the outputs of the projections."""
    q, k, v = (_split(part, hook.encoding.num_heads) for part in parts)
    settings = _rms_settings(norms)
    if settings is not None and table is not None and uses_triton(q):
        weights, eps = settings
        q, k = normed_rotate_qk(
            q, k, table, hook.matrices(), weights=weights, eps=eps, layout=hook.layout
        )
        return q, k, v
    q, k = (x if norm is None else norm(x) for x, norm in zip((q, k), norms, strict=True))
    return *hook.rotate(*hook.apply_matrices(q, k), table), v


class _RMSSettings(NamedTuple):
    """Weights and eps of the two norms."""

    weights: tuple[Tensor, Tensor]
    eps: float


def _rms_settings(norms: Norms) -> _RMSSettings | None:
    """Return the settings for the fused kernel if both are plain RMS norms of the same eps."""
    q, k = norms
    if not isinstance(q, RMSNorm | nn.RMSNorm) or not isinstance(k, RMSNorm | nn.RMSNorm):
        return None
    plain = getattr(q, "bias", None) is None and getattr(k, "bias", None) is None
    if not plain or q.weight is None or k.weight is None or q.eps is None or q.eps != k.eps:
        return None
    return _RMSSettings((q.weight, k.weight), float(q.eps))


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
