"""Shared base of diffusers' transformers with a `PatchEmbed`: DiT and SD3."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from harope.integrations.base import AbsoluteKind, Integration, Layer, Model, Projection
from harope.integrations.diffusers.attach import (
    check_processor,
    check_stock_processor,
    restore_processor,
    set_processor_of,
)
from harope.integrations.state import InstallState, grid
from harope.rope import EncodingConfig

SIDES: tuple[tuple[Literal[0, 1], str], ...] = ((0, "q"), (1, "k"))


class PatchEmbedIntegration(Integration):
    """Models whose `pos_embed` makes the tokens and adds sines and cosines to them."""

    def check(self, model: Model, config: EncodingConfig) -> None:
        for layer in self.layers(model):
            if getattr(layer.attention, "fused_projections", False):
                raise ValueError(
                    f"{layer.name} has fused projections, which use a processor of their own: "
                    f"call unfuse_qkv_projections() first"
                )
            check_stock_processor(layer)

    def absolute(self, model: Model) -> AbsoluteKind | None:
        return None if model.pos_embed.pos_embed is None else "sincos"

    def embedder(self, model: Model) -> Model:
        return model.pos_embed

    def register_position_hook(self, model: Model, state: InstallState) -> None:
        state.handles.append(model.pos_embed.register_forward_hook(_LatentGridHook(state)))

    def attach(self, layer: Layer, state: InstallState) -> None:
        from harope.integrations.diffusers.processors import JointProcessor

        set_processor_of(layer, JointProcessor(), state)

    def detach(self, layer: Layer, state: InstallState) -> None:
        restore_processor(layer, state)

    def check_attached(self, layer: Layer) -> None:
        check_processor(layer, "JointProcessor")

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


@dataclass(eq=False)
class _LatentGridHook:
    """Forward hook of `PatchEmbed`: the latents' size gives the positions."""

    state: InstallState

    def __call__(self, patches: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        height, width = (side // patches.patch_size for side in inputs[0].shape[-2:])
        key = (height, width, output.device)
        self.state.on_forward(grid(*key), grid_key=key)
