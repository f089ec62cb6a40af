"""timm's vision transformers: VisionTransformer (with DeiT) and Eva with its rotary variants.

All their attentions compute `q, k = self.q_norm(q), self.k_norm(k)` on (batch, heads, tokens,
head_dim) and rotate behind it. Without QK-norm both norms are identities. An encoding is therefore
applied by forward hooks on the norms, and no code of timm is duplicated.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harope._utils.classes import is_a
from harope.integrations.attention import (
    AttentionHook,
    Projection,
    attach_qkv,
    check_fit,
    detach_qkv,
    folds_basis,
    hook_of,
    packed_projections,
)
from harope.integrations.base import (
    AbsoluteKind,
    InstallState,
    Integration,
    Layer,
)
from harope.integrations.forward import Model, grid, refuse_symbolic
from harope.rope import EncodingConfig, apply_matrices
from harope.rope._fast.dispatch import rotate_by

ATTENTIONS = (
    "timm.layers.attention.Attention",
    "timm.layers.attention.AttentionRope",
    "timm.models.eva.EvaAttention",
)


class _TimmIntegration(Integration):
    """What both families share."""

    def check(self, model: Model, config: EncodingConfig) -> None:
        dropped = getattr(getattr(model, "patch_drop", None), "prob", 0.0)
        if dropped and config.frequencies not in ("none", "host"):
            raise ValueError(
                f"patch_drop_rate is {dropped} but frequencies {config.frequencies!r} need the "
                f"positions of all patches, and timm does not expose which patches were kept: "
                f"create the model without patch dropout"
            )

    def layers(self, model: Model) -> list[Layer]:
        found = []
        for index, block in enumerate(model.blocks):
            attention: Model = getattr(block, "attn", None)
            if not is_a(attention, *ATTENTIONS):
                raise ValueError(
                    f"blocks.{index} is a {type(block).__name__} whose attention is not timm's "
                    f"Attention, AttentionRope or EvaAttention: create the model with those"
                )
            found.append(
                Layer(f"blocks.{index}.attn", attention, attention.num_heads, attention.head_dim)
            )
        return found

    def absolute(self, model: Model) -> AbsoluteKind | None:
        return None if model.pos_embed is None else "learned"

    def embedder(self, model: Model) -> Model:
        return model.patch_embed

    def register_position_hook(self, model: Model, state: InstallState) -> None:
        hook = _PatchGridHook(state, model.num_prefix_tokens)
        state.handles.append(model.patch_embed.register_forward_hook(hook))
        model.no_weight_decay = NoWeightDecay(model)

    def attach(self, layer: Layer, state: InstallState) -> None:
        hook = hook_of(layer.attention)
        if getattr(layer.attention, "q_bias", None) is None:
            attach_qkv(layer.attention)
        for norm, side in ((layer.attention.q_norm, 0), (layer.attention.k_norm, 1)):
            state.handles.append(norm.register_forward_hook(_NormHook(hook, side)))

    def detach(self, layer: Layer, state: InstallState) -> None:
        detach_qkv(layer.attention)

    def disable_pos_embed(self, model: Model, state: InstallState) -> None:
        state.originals["pos_embed"] = kept = model.pos_embed
        model.pos_embed = None
        if is_a(model, "timm.models.deit.VisionTransformerDistilled"):
            # This model adds its embedding unconditionally: zeros take its place.
            state.originals["order"] = list(model._parameters)
            del model.pos_embed
            model.register_buffer("pos_embed", torch.zeros_like(kept), persistent=False)

    def restore(self, model: Model, state: InstallState) -> None:
        if "no_weight_decay" in vars(model):
            del model.no_weight_decay
        originals = state.originals
        if "order" in originals:
            del model.pos_embed
            model._parameters = dict.fromkeys(originals["order"]) | model._parameters
        if "pos_embed" in originals:
            model.pos_embed = originals["pos_embed"]
        if "rope" in originals:
            model.rope = originals["rope"]


class VisionTransformerIntegration(_TimmIntegration):
    """VisionTransformer and its subclasses, which have no rotation of their own."""

    title = "timm's VisionTransformer"

    def matches(self, model: Model) -> bool:
        return is_a(model, "timm.models.vision_transformer.VisionTransformer")

    def projections(self, attention: Model) -> list[Projection]:
        return [] if _has_norms(attention) else packed_projections("qkv", attention.qkv)


class EvaIntegration(_TimmIntegration):
    """EVA-02, DINOv3 and rotary ViTs, whose `rope` is a rotary module of timm or None."""

    title = "timm's Eva"

    def matches(self, model: Model) -> bool:
        return is_a(model, "timm.models.eva.Eva")

    def rotates(self, model: Model) -> bool:
        return model.rope is not None

    def disable_rope(self, model: Model, state: InstallState) -> None:
        state.originals["rope"] = model.rope
        model.rope = None

    def projections(self, attention: Model) -> list[Projection]:
        if _has_norms(attention):
            return []
        packed = attention.qkv
        if packed is None:
            q, k = attention.q_proj, attention.k_proj
            return [
                Projection("q_proj", q, slice(None), q.bias, 0),
                Projection("k_proj", k, slice(None), k.bias, 1),
            ]
        if getattr(attention, "q_bias", None) is None:
            return packed_projections("qkv", packed)
        third = packed.out_features // 3
        # The bias of keys is a constant zero.
        return [
            Projection("qkv", packed, slice(third), attention.q_bias, 0),
            Projection("qkv", packed, slice(third, 2 * third), None, 1),
        ]


def _has_norms(attention: Model) -> bool:
    """Return whether QK-norm stands between projection and rotation."""
    return not isinstance(attention.q_norm, nn.Identity)


@dataclass(eq=False)
class _PatchGridHook:
    """Forward hook of the patch embedding: its grid gives the positions."""

    state: InstallState
    num_prefix: int

    def __call__(self, patches: Model, inputs: tuple[Any, ...], output: Any) -> None:
        refuse_symbolic(output)
        if output.ndim == 4:
            # Channels last: the model takes any size.
            height, width = output.shape[1:3]
        else:
            height, width = patches.dynamic_feat_size(tuple(inputs[0].shape[-2:]))
        key = (height, width, output.device)
        self.state.on_forward(grid(*key), num_prefix=self.num_prefix, grid_key=key)


@dataclass(eq=False)
class _NormHook:
    """Forward hook of q_norm or k_norm that applies A and the rotation."""

    hook: AttentionHook
    side: int

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        hook = self.hook
        # Unless A was folded into the projection.
        if not folds_basis(hook.attention, output.shape[0] * output.shape[2]):
            matrices = hook.matrices()
            if matrices is not None:
                output = apply_matrices(output, matrices[self.side])
        table = hook.table()
        if table is None:
            return output
        check_fit(table, output.shape[2], output.shape[0])
        return rotate_by(output, table, hook.layout)


@dataclass(eq=False)
class NoWeightDecay:
    """`model.no_weight_decay` extended by the encodings' parameters."""

    model: Model

    def __call__(self) -> set[str]:
        own = type(self.model).no_weight_decay(self.model)
        names = {name for name, _ in self.model.named_parameters() if ".harope." in name}
        return set(own) | names
