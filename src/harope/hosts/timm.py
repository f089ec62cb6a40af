"""timm's vision transformers: VisionTransformer with its DeiT kin, and Eva with its rotary types.

All their attentions compute `q, k = self.q_norm(q), self.k_norm(k)` on (batch, heads, tokens,
head_dim) and rotate after it. So hooks on the two norms, which are identities where there is no
QK-norm, are the place of an encoding, and none of timm's code is written again.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harope.hosts.host import AbsoluteKind, Host, Layer, Projection, is_a
from harope.hosts.installation import Installation, Seat, seat_of
from harope.rope import EncodingConfig

ATTENTIONS = (
    "timm.layers.attention.Attention",
    "timm.layers.attention.AttentionRope",
    "timm.models.eva.EvaAttention",
)


class _TimmHost(Host):
    """What both families share."""

    def check(self, model: nn.Module, config: EncodingConfig) -> None:
        """Dropped patches have positions that nobody tells."""
        dropped = getattr(getattr(model, "patch_drop", None), "prob", 0.0)
        if dropped and config.frequencies not in ("none", "host"):
            raise ValueError(
                f"patch_drop_rate is {dropped} but frequencies {config.frequencies!r} need the "
                f"positions of all patches: create the model without patch dropout"
            )

    def layers(self, model: nn.Module) -> list[Layer]:
        """The attention of every block."""
        found = []
        for index, block in enumerate(model.blocks):
            attention = getattr(block, "attn", None)
            if not isinstance(attention, nn.Module) or not is_a(attention, *ATTENTIONS):
                raise ValueError(
                    f"blocks.{index} is a {type(block).__name__} whose attention is not timm's "
                    f"Attention, AttentionRope or EvaAttention: create the model with those"
                )
            found.append(
                Layer(f"blocks.{index}.attn", attention, attention.num_heads, attention.head_dim)
            )
        return found

    def absolute(self, model: nn.Module) -> AbsoluteKind | None:
        """Learned, or none."""
        return None if model.pos_embed is None else "learned"

    def embedder(self, model: nn.Module) -> nn.Module:
        """The patch embedding."""
        return model.patch_embed

    def watch(self, model: nn.Module, installation: Installation) -> None:
        """The patches tell the grid."""
        begin = _BeginWithPatches(installation, model.num_prefix_tokens)
        installation.handles.append(model.patch_embed.register_forward_hook(begin))
        if installation.layers:
            model.no_weight_decay = NoWeightDecay(model)

    def seat(self, layer: Layer, installation: Installation) -> None:
        """Hooks after both norms."""
        seat = seat_of(layer.attention)
        for norm, side in ((layer.attention.q_norm, 0), (layer.attention.k_norm, 1)):
            installation.handles.append(norm.register_forward_hook(_AfterNorm(seat, side)))

    def unseat(self, layer: Layer, installation: Installation) -> None:
        """The handles are removed with all others."""

    def check_seated(self, layer: Layer) -> None:
        """Hooks stay where they are."""

    def drop_absolute(self, model: nn.Module, installation: Installation) -> None:
        """No pos_embed; zeros where a model cannot do without."""
        installation.originals["pos_embed"] = kept = model.pos_embed
        model.pos_embed = None
        if is_a(model, "timm.models.deit.VisionTransformerDistilled"):
            del model.pos_embed
            model.register_buffer("pos_embed", torch.zeros_like(kept), persistent=False)

    def restore(self, model: nn.Module, installation: Installation) -> None:
        """What was taken out comes back."""
        vars(model).pop("no_weight_decay", None)
        if "pos_embed" in installation.originals:
            del model.pos_embed
            model.pos_embed = installation.originals["pos_embed"]
        if "rope" in installation.originals:
            model.rope = installation.originals["rope"]


class VisionTransformerHost(_TimmHost):
    """ViT, DeiT, BEiT-like models without a rotation of their own."""

    title = "timm's VisionTransformer"

    def matches(self, model: nn.Module) -> bool:
        """VisionTransformer and what derives from it."""
        return is_a(model, "timm.models.vision_transformer.VisionTransformer")

    def rotates(self, model: nn.Module) -> bool:
        """Never."""
        return False

    def drop_rotation(self, model: nn.Module, installation: Installation) -> None:
        """There is none."""

    def projections(self, attention: nn.Module) -> list[Projection]:
        """The packed projection."""
        return packed_projections(attention)


class EvaHost(_TimmHost):
    """EVA-02, DINOv3, ViT with rotary embeddings: `rope` is one of timm's rotary modules or None."""

    title = "timm's Eva"

    def matches(self, model: nn.Module) -> bool:
        """Eva and what derives from it."""
        return is_a(model, "timm.models.eva.Eva")

    def rotates(self, model: nn.Module) -> bool:
        """Where it has a rope."""
        return model.rope is not None

    def drop_rotation(self, model: nn.Module, installation: Installation) -> None:
        """No rope."""
        installation.originals["rope"] = model.rope
        model.rope = None

    def projections(self, attention: nn.Module) -> list[Projection]:
        """The packed projection, whose biases may stand apart, or three of them."""
        if attention.qkv is not None and attention.q_bias is None:
            return packed_projections(attention)
        if not _is_identity(attention.q_norm) or not _is_identity(attention.k_norm):
            return []
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


def packed_projections(attention: nn.Module) -> list[Projection]:
    """Queries and keys of `qkv`, where no norm follows."""
    if not _is_identity(attention.q_norm) or not _is_identity(attention.k_norm):
        return []
    linear = attention.qkv
    weights = linear.weight.chunk(3)
    biases = (None, None) if linear.bias is None else linear.bias.chunk(3)
    sides: tuple[Literal[0, 1], ...] = (0, 1)
    return [Projection("qkv", linear, weights[side], biases[side], side) for side in sides]


def _is_identity(norm: nn.Module) -> bool:
    return isinstance(norm, nn.Identity)


@dataclass(eq=False)
class _BeginWithPatches:
    """Forward hook of the patch embedding."""

    installation: Installation
    num_prefix: int

    def __call__(self, patches: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # Channels last where the model takes any size, else flat.
        side: Any = output.shape[1:3]
        if output.ndim == 3:
            side = patches.dynamic_feat_size(tuple(inputs[0].shape[-2:]))
        self.installation.begin(
            self.installation.grid(*side, output.device, prefix=self.num_prefix)
        )


@dataclass(eq=False)
class _AfterNorm:
    """Forward hook of q_norm or k_norm."""

    seat: Seat
    side: int

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self.seat.rotate(self.seat.map(output, self.side))


@dataclass(eq=False)
class NoWeightDecay:
    """`model.no_weight_decay` with the encodings' parameters added."""

    model: nn.Module

    def __call__(self) -> set[str]:
        own = type(self.model).no_weight_decay(self.model)
        names = {name for name, _ in self.model.named_parameters() if ".harope." in name}
        return set(own) | names
