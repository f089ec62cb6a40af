"""DiT and SD3, whose `pos_embed` makes the tokens of the latents' patches.

Neither has a rotation of its own. The positions of the patches travel to the attentions as one of
the keyword arguments that the model passes to its attention processors.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from harope._utils.classes import is_a
from harope.integrations.attention import Projection
from harope.integrations.base import (
    AbsoluteKind,
    InstallState,
    Layer,
)
from harope.integrations.diffusers.base import DiffusersIntegration
from harope.integrations.forward import Model, grid
from harope.rope import EncodingConfig

SIDES: tuple[tuple[Literal[0, 1], str], ...] = ((0, "q"), (1, "k"))


class PatchEmbedIntegration(DiffusersIntegration):
    """Models whose `pos_embed` makes the tokens and adds sines and cosines to them."""

    processor = "JointProcessor"
    heads_first = True
    attention_kwargs: tuple[str, int]
    """Name and place, in the model's forward, of the arguments for attention processors."""

    def check(self, model: Model, config: EncodingConfig) -> None:
        for layer in self.layers(model):
            if getattr(layer.attention, "fused_projections", False):
                raise ValueError(
                    f"{layer.name} has fused projections, which use a processor of their own: "
                    f"call unfuse_qkv_projections() first"
                )
        super().check(model, config)

    def absolute(self, model: Model) -> AbsoluteKind | None:
        return None if model.pos_embed.pos_embed is None else "sincos"

    def embedder(self, model: Model) -> Model:
        return model.pos_embed

    def register_position_hook(self, model: Model, state: InstallState) -> None:
        hook = _LatentGridHook(state, *self.attention_kwargs)
        state.handles.append(model.register_forward_pre_hook(hook, with_kwargs=True))

    def disable_pos_embed(self, model: Model, state: InstallState) -> None:
        # PatchEmbed adds nothing if its table is None.
        state.originals["pos_embed"] = model.pos_embed.pos_embed
        model.pos_embed.pos_embed = None

    def restore(self, model: Model, state: InstallState) -> None:
        if "pos_embed" in state.originals:
            model.pos_embed.pos_embed = state.originals["pos_embed"]

    def projections(self, attention: Model) -> list[Projection]:
        """List the projections of the image and of the text."""
        found: list[Projection] = []
        for prefix, norms in (("to_{}", "norm_{}"), ("add_{}_proj", "norm_added_{}")):
            for side, letter in SIDES:
                linear = getattr(attention, prefix.format(letter), None)
                if linear is None:
                    continue
                if getattr(attention, norms.format(letter)) is not None:
                    return []
                name = prefix.format(letter)
                found.append(Projection(name, linear, slice(None), linear.bias, side))
        return found


class DiffusersDiTIntegration(PatchEmbedIntegration):
    """Class-conditional DiT, which takes square inputs only."""

    title = "diffusers' DiTTransformer2DModel"
    attention_kwargs = "cross_attention_kwargs", 3

    def matches(self, model: Model) -> bool:
        return is_a(model, "diffusers.models.transformers.dit_transformer_2d.DiTTransformer2DModel")

    def layers(self, model: Model) -> list[Layer]:
        sizes = model.config.num_attention_heads, model.config.attention_head_dim
        return [
            Layer(f"transformer_blocks.{index}.attn1", block.attn1, *sizes)
            for index, block in enumerate(model.transformer_blocks)
        ]


class SD3Integration(PatchEmbedIntegration):
    """Joint attention of image and text; SD3.5 has a second attention over the image alone."""

    title = "diffusers' SD3Transformer2DModel"
    attention_kwargs = "joint_attention_kwargs", 5

    def matches(self, model: Model) -> bool:
        return is_a(model, "diffusers.models.transformers.transformer_sd3.SD3Transformer2DModel")

    def layers(self, model: Model) -> list[Layer]:
        sizes = model.config.num_attention_heads, model.config.attention_head_dim
        return [
            Layer(f"transformer_blocks.{index}.{name}", attention, *sizes)
            for index, block in enumerate(model.transformer_blocks)
            for name in ("attn", "attn2")
            if (attention := getattr(block, name, None)) is not None
        ]


@dataclass(eq=False)
class _LatentGridHook:
    """Forward pre-hook of the model: the latents' size gives the positions of their patches."""

    state: InstallState
    name: str
    place: int

    def __call__(self, model: Model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        latents: Tensor = args[0] if args else kwargs["hidden_states"]
        height, width = (side // model.pos_embed.patch_size for side in latents.shape[-2:])
        key = (height, width, latents.device)
        positions = self.state.on_forward(grid(*key), grid_key=key)
        if self.state.rotates:
            given = args[self.place] if len(args) > self.place else kwargs.get(self.name)
            passed = {**(given or {}), "positions": positions}
            if len(args) > self.place:
                args = (*args[: self.place], passed, *args[self.place + 1 :])
            else:
                kwargs = {**kwargs, self.name: passed}
        return args, kwargs
