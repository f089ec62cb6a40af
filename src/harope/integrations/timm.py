"""timm's vision transformers: VisionTransformer with its DeiT kin, and Eva with its rotary types.

All their attentions compute `q, k = self.q_norm(q), self.k_norm(k)` on (batch, heads, tokens,
head_dim) and rotate after it. So hooks on the two norms, which are identities where there is no
QK-norm, are the place of an encoding, and none of timm's code is written again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harope.integrations.base import (
    AbsoluteKind,
    Host,
    Layer,
    Model,
    Projection,
    is_a,
    packed_projections,
)
from harope.integrations.projections import leave_seat, meets_basis, take_seat
from harope.integrations.state import AttentionHook, InstallState, hook_of
from harope.rope import EncodingConfig, apply_matrices, rotate

ATTENTIONS = (
    "timm.layers.attention.Attention",
    "timm.layers.attention.AttentionRope",
    "timm.models.eva.EvaAttention",
)


class _TimmHost(Host):
    """What both families share."""

    def check(self, model: Model, config: EncodingConfig) -> None:
        """Dropped patches have positions that nobody tells."""
        dropped = getattr(getattr(model, "patch_drop", None), "prob", 0.0)
        if dropped and config.frequencies not in ("none", "host"):
            raise ValueError(
                f"patch_drop_rate is {dropped} but frequencies {config.frequencies!r} need the "
                f"positions of all patches: create the model without patch dropout"
            )

    def layers(self, model: Model) -> list[Layer]:
        """The attention of every block."""
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
        """Learned, or none."""
        return None if model.pos_embed is None else "learned"

    def embedder(self, model: Model) -> Model:
        """The patch embedding."""
        return model.patch_embed

    def watch(self, model: Model, installation: InstallState) -> None:
        """The patches tell the grid."""
        begin = _BeginWithPatches(installation, model.num_prefix_tokens)
        installation.handles.append(model.patch_embed.register_forward_hook(begin))
        if installation.layers:
            model.no_weight_decay = NoWeightDecay(model)

    def seat(self, layer: Layer, installation: InstallState) -> None:
        """Hooks after both norms, and the packed projection where the forward calls it."""
        seat = hook_of(layer.attention)
        if getattr(layer.attention, "q_bias", None) is None:
            take_seat(layer.attention)
        for norm, side in ((layer.attention.q_norm, 0), (layer.attention.k_norm, 1)):
            installation.handles.append(norm.register_forward_hook(_AfterNorm(seat, side)))

    def detach(self, layer: Layer, installation: InstallState) -> None:
        """The projection; the hooks are removed with all others."""
        leave_seat(layer.attention)

    def check_attached(self, layer: Layer) -> None:
        """Hooks stay where they are."""

    def disable_pos_embed(self, model: Model, installation: InstallState) -> None:
        """No pos_embed; zeros where a model cannot do without."""
        installation.originals["pos_embed"] = kept = model.pos_embed
        model.pos_embed = None
        if is_a(model, "timm.models.deit.VisionTransformerDistilled"):
            installation.originals["order"] = list(model._parameters)
            del model.pos_embed
            model.register_buffer("pos_embed", torch.zeros_like(kept), persistent=False)

    def restore(self, model: Model, installation: InstallState) -> None:
        """What was taken out comes back."""
        if "no_weight_decay" in vars(model):
            del model.no_weight_decay
        originals = installation.originals
        if "order" in originals:
            del model.pos_embed
            model._parameters = dict.fromkeys(originals["order"]) | model._parameters
        if "pos_embed" in originals:
            model.pos_embed = originals["pos_embed"]
        if "rope" in originals:
            model.rope = originals["rope"]


class VisionTransformerIntegration(_TimmHost):
    """ViT, DeiT, BEiT-like models without a rotation of their own."""

    title = "timm's VisionTransformer"

    def matches(self, model: Model) -> bool:
        """VisionTransformer and what derives from it."""
        return is_a(model, "timm.models.vision_transformer.VisionTransformer")

    def rotates(self, model: Model) -> bool:
        """Never."""
        return False

    def disable_rope(self, model: Model, installation: InstallState) -> None:
        """There is none."""

    def projections(self, attention: Model) -> list[Projection]:
        """The packed projection."""
        return [] if _has_norms(attention) else packed_projections("qkv", attention.qkv)


class EvaIntegration(_TimmHost):
    """EVA-02, DINOv3, ViT with rotary embeddings: `rope` is a rotary module of timm's, or None."""

    title = "timm's Eva"

    def matches(self, model: Model) -> bool:
        """Eva and what derives from it."""
        return is_a(model, "timm.models.eva.Eva")

    def rotates(self, model: Model) -> bool:
        """Where it has a rope."""
        return model.rope is not None

    def disable_rope(self, model: Model, installation: InstallState) -> None:
        """No rope."""
        installation.originals["rope"] = model.rope
        model.rope = None

    def projections(self, attention: Model) -> list[Projection]:
        """The packed projection, whose biases may stand apart, or three of them."""
        if _has_norms(attention):
            return []
        if attention.qkv is not None and getattr(attention, "q_bias", None) is None:
            return packed_projections("qkv", attention.qkv)
        if attention.qkv is None:
            q, k = attention.q_proj, attention.k_proj
            return [
                Projection("q_proj", q, q.weight, q.bias, 0),
                Projection("k_proj", k, k.weight, k.bias, 1),
            ]
        weights = attention.qkv.weight.chunk(3)
        # Keys have a fixed bias of zero.
        return [
            Projection("qkv", attention.qkv, weights[0], attention.q_bias, 0),
            Projection("qkv", attention.qkv, weights[1], None, 1),
        ]


def _has_norms(attention: Model) -> bool:
    """Whether QK-norm stands between projection and rotation."""
    return not isinstance(attention.q_norm, nn.Identity)


@dataclass(eq=False)
class _BeginWithPatches:
    """Forward hook of the patch embedding."""

    installation: InstallState
    num_prefix: int

    def __call__(self, patches: Model, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.ndim == 4:
            # Channels last: the model takes any size.
            height, width = output.shape[1:3]
        else:
            height, width = patches.dynamic_feat_size(tuple(inputs[0].shape[-2:]))
        installation = self.installation
        installation.begin(installation.grid(height, width, output.device, prefix=self.num_prefix))


@dataclass(eq=False)
class _AfterNorm:
    """Forward hook of q_norm or k_norm."""

    seat: AttentionHook
    side: int

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seat, matrices = self.seat, self.seat.matrices()
        in_weights = meets_basis(seat.attention, output.shape[0] * output.shape[2])
        if matrices is not None and not in_weights:
            output = apply_matrices(output, matrices[self.side])
        table = seat.table()
        return output if table is None else rotate(output, *table, seat.layout)


@dataclass(eq=False)
class NoWeightDecay:
    """`model.no_weight_decay` with the encodings' parameters added."""

    model: Model

    def __call__(self) -> set[str]:
        """Names of parameters that take no weight decay."""
        own = type(self.model).no_weight_decay(self.model)
        names = {name for name, _ in self.model.named_parameters() if ".harope." in name}
        return set(own) | names
