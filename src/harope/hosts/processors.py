"""Attention processors of diffusers that pass queries and keys through an encoding's seat.

They hold no state: `set_processor` would throw it away.
"""

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from torch.nn import functional as F

from harope.hosts.host import Model
from harope.hosts.installation import Seat, seat_of
from harope.models.attention import is_bare
from harope.rope import fold_projection
from harope.rope.projection import meets_weights

Heads = tuple[Tensor, Tensor, Tensor]


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
        seat = seat_of(attn)
        q, k, v = _image_heads(attn, hidden_states, seat)
        q, k = seat.rotate(q), seat.rotate(k)
        if encoder_hidden_states is not None:
            text = _text_heads(attn, encoder_hidden_states, seat)
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
        seat = seat_of(attn)
        q, k, v = _image_heads(attn, hidden_states, seat)
        if encoder_hidden_states is not None:
            text = _text_heads(attn, encoder_hidden_states, seat)
            q, k, v = (torch.cat(parts, dim=2) for parts in zip(text, (q, k, v), strict=True))
        if image_rotary_emb is None:
            q, k = seat.rotate(q), seat.rotate(k)
        else:
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
        context, image = out.split([encoder_hidden_states.shape[1], hidden_states.shape[1]], dim=1)
        image = attn.to_out[1](attn.to_out[0](image.contiguous()))
        return image, attn.to_add_out(context.contiguous())


def _image_heads(attn: Model, x: Tensor, seat: Seat) -> Heads:
    if getattr(attn, "fused_projections", False):
        return _normed(attn.to_qkv(x).chunk(3, dim=-1), (attn.norm_q, attn.norm_k), seat)
    linears = attn.to_q, attn.to_k, attn.to_v
    return _projected(x, linears, (attn.norm_q, attn.norm_k), seat)


def _text_heads(attn: Model, x: Tensor, seat: Seat) -> Heads:
    norms = attn.norm_added_q, attn.norm_added_k
    if getattr(attn, "fused_projections", False):
        return _normed(attn.to_added_qkv(x).chunk(3, dim=-1), norms, seat)
    return _projected(x, (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), norms, seat)


def _projected(
    x: Tensor,
    linears: tuple[Model, Model, Model],
    norms: tuple[nn.Module | None, nn.Module | None],
    seat: Seat,
) -> Heads:
    """Queries and keys in the basis of their heads, and values, (batch, heads, tokens, head_dim).

    Bare projections take the matrices in their weights where that is less work.
    """
    matrices = seat.matrices()
    bare = norms == (None, None) and all(map(is_bare, linears[:2]))
    if matrices is None or not bare or not meets_weights(x.shape[0] * x.shape[1], x.shape[2]):
        return _normed(tuple(linear(x) for linear in linears), norms, seat)
    heads = seat.encoding.num_heads
    q, k = (
        F.linear(x, *fold_projection(linear.weight, linear.bias, matrix, heads))
        for linear, matrix in zip(linears, matrices, strict=False)
    )
    q, k, v = (_split(part, heads) for part in (q, k, linears[2](x)))
    return q, k, v


def _normed(
    parts: tuple[Tensor, ...], norms: tuple[nn.Module | None, nn.Module | None], seat: Seat
) -> Heads:
    q, k, v = (_split(part, seat.encoding.num_heads) for part in parts)
    q, k = (x if norm is None else norm(x) for x, norm in zip((q, k), norms, strict=True))
    return seat.map(q, 0), seat.map(k, 1), v


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
