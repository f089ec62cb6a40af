"""FLUX.1."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harope.integrations.base import AbsoluteKind, Host, Layer, Model, Projection, is_a
from harope.integrations.diffusers.attach import (
    check_processor,
    check_stock_processor,
    restore_processor,
    set_processor_of,
)
from harope.integrations.state import InstallState
from harope.rope import EncodingConfig


class FluxIntegration(Host):
    """Text first, then the image; positions (index, y, x) come as ids; QK-norm throughout."""

    title = "diffusers' FluxTransformer2DModel"
    num_axes = 3

    def matches(self, model: Model) -> bool:
        """By its class."""
        return is_a(model, "diffusers.models.transformers.transformer_flux.FluxTransformer2DModel")

    def check(self, model: Model, config: EncodingConfig) -> None:
        """Processors of others, such as an IP-Adapter's, would be replaced."""
        for layer in self.layers(model):
            check_stock_processor(layer)

    def layers(self, model: Model) -> list[Layer]:
        """Double blocks, then single ones."""
        return [
            Layer(f"{kind}.{index}.attn", block.attn, block.attn.heads, block.attn.head_dim)
            for kind in ("transformer_blocks", "single_transformer_blocks")
            for index, block in enumerate(getattr(model, kind))
        ]

    def rotates(self, model: Model) -> bool:
        """Always, but after `disable_rope`."""
        return not isinstance(model.pos_embed, NoRotation)

    def default_options(self, model: Model) -> dict[str, Any]:
        """The channels of its axes."""
        return {"axes_dim": tuple(model.config.axes_dims_rope)}

    def absolute(self, model: Model) -> AbsoluteKind | None:
        """None."""
        return None

    def embedder(self, model: Model) -> Model:
        """The projection of the packed latents."""
        return model.x_embedder

    def watch(self, model: Model, installation: InstallState) -> None:
        """The ids of text and image are the positions."""
        handle = model.register_forward_pre_hook(_BeginWithIds(installation), with_kwargs=True)
        installation.handles.append(handle)

    def seat(self, layer: Layer, installation: InstallState) -> None:
        """A processor that knows the seat."""
        from harope.integrations.diffusers.processors import FluxProcessor

        set_processor_of(layer, FluxProcessor(), installation)

    def detach(self, layer: Layer, installation: InstallState) -> None:
        """The processor that was there."""
        restore_processor(layer, installation)

    def check_attached(self, layer: Layer) -> None:
        """Something may have set another processor."""
        check_processor(layer, "FluxProcessor")

    def disable_rope(self, model: Model, installation: InstallState) -> None:
        """Attentions turn nothing where they are given no table."""
        installation.originals["pos_embed"] = model.pos_embed
        model.pos_embed = NoRotation()

    def disable_pos_embed(self, model: Model, installation: InstallState) -> None:
        """There is none."""

    def restore(self, model: Model, installation: InstallState) -> None:
        """The rotation comes back."""
        if "pos_embed" in installation.originals:
            model.pos_embed = installation.originals["pos_embed"]

    def projections(self, attention: Model) -> list[Projection]:
        """None: QK-norm stands in between."""
        return []


class NoRotation(nn.Module):
    """In the place of `pos_embed`."""

    def forward(self, ids: Tensor) -> None:
        """No table."""


@dataclass(eq=False)
class _BeginWithIds:
    """Forward pre-hook of the model."""

    installation: InstallState

    def __call__(self, model: Model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Their places in the signature of FluxTransformer2DModel.forward.
        image, text = (
            kwargs[name] if name in kwargs else args[place]
            for name, place in (("img_ids", 4), ("txt_ids", 5))
        )
        # Whole numbers up to 256, which bfloat16 ids of 4,096 pixels still tell apart.
        ids = [part[0] if part.ndim == 3 else part for part in (text, image)]
        self.installation.begin(torch.cat(ids).float())
