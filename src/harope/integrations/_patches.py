"""What diffusers' transformers over `PatchEmbed` share: DiT and SD3."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from harope.integrations.base import AbsoluteKind, Host, Layer, Model, Projection
from harope.integrations.diffusers.attach import (
    check_processor,
    check_stock_processor,
    restore_processor,
    set_processor_of,
)
from harope.integrations.state import InstallState
from harope.rope import EncodingConfig


class PatchEmbedIntegration(Host):
    """Models whose `pos_embed` makes the tokens and adds sines and cosines to them."""

    def check(self, model: Model, config: EncodingConfig) -> None:
        """Fused projections have another processor of their own."""
        for layer in self.layers(model):
            if getattr(layer.attention, "fused_projections", False):
                raise ValueError(
                    f"{layer.name} has fused projections: call unfuse_qkv_projections() first"
                )
            check_stock_processor(layer)

    def rotates(self, model: Model) -> bool:
        """Never."""
        return False

    def absolute(self, model: Model) -> AbsoluteKind | None:
        """Sines and cosines, where they have not been switched off."""
        return None if model.pos_embed.pos_embed is None else "sincos"

    def embedder(self, model: Model) -> Model:
        """The patch embedding."""
        return model.pos_embed

    def watch(self, model: Model, installation: InstallState) -> None:
        """The latents tell the grid."""
        handle = model.pos_embed.register_forward_hook(_BeginWithLatents(installation))
        installation.handles.append(handle)

    def seat(self, layer: Layer, installation: InstallState) -> None:
        """A processor that knows the seat."""
        from harope.integrations.diffusers.processors import JointProcessor

        set_processor_of(layer, JointProcessor(), installation)

    def detach(self, layer: Layer, installation: InstallState) -> None:
        """The processor that was there."""
        restore_processor(layer, installation)

    def check_attached(self, layer: Layer) -> None:
        """Something may have set another processor."""
        check_processor(layer, "JointProcessor")

    def disable_rope(self, model: Model, installation: InstallState) -> None:
        """There is none."""

    def disable_pos_embed(self, model: Model, installation: InstallState) -> None:
        """`PatchEmbed` adds nothing where its table is None."""
        installation.originals["pos_embed"] = model.pos_embed.pos_embed
        model.pos_embed.pos_embed = None

    def restore(self, model: Model, installation: InstallState) -> None:
        """The table comes back."""
        if "pos_embed" in installation.originals:
            model.pos_embed.pos_embed = installation.originals["pos_embed"]

    def projections(self, attention: Model) -> list[Projection]:
        """Those of the image and of the text."""
        found: list[Projection] = []
        for prefix, norms in (("to_{}", "norm_{}"), ("add_{}_proj", "norm_added_{}")):
            for side, letter in SIDES:
                linear = getattr(attention, prefix.format(letter), None)
                if linear is None:
                    continue
                if getattr(attention, norms.format(letter)) is not None:
                    return []
                name = prefix.format(letter)
                found.append(Projection(name, linear, linear.weight, linear.bias, side))
        return found


SIDES: tuple[tuple[Literal[0, 1], str], ...] = ((0, "q"), (1, "k"))


@dataclass(eq=False)
class _BeginWithLatents:
    """Forward hook of `PatchEmbed`."""

    installation: InstallState

    def __call__(self, patches: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        height, width = (side // patches.patch_size for side in inputs[0].shape[-2:])
        self.installation.begin(self.installation.grid(height, width, output.device))
