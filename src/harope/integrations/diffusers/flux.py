"""FLUX.1."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harope._utils.classes import is_a
from harope.integrations.base import InstallState, Layer
from harope.integrations.diffusers.base import DiffusersIntegration
from harope.integrations.forward import Model, Positions


class FluxIntegration(DiffusersIntegration):
    """Text tokens first, then the image; positions (index, y, x); QK-norm in all attentions."""

    title = "diffusers' FluxTransformer2DModel"
    num_axes = 3
    processor = "FluxProcessor"
    heads_first = False

    def matches(self, model: Model) -> bool:
        return is_a(model, "diffusers.models.transformers.transformer_flux.FluxTransformer2DModel")

    def layers(self, model: Model) -> list[Layer]:
        """List the attentions of the double blocks, then of the single blocks."""
        return [
            Layer(f"{kind}.{index}.attn", block.attn, block.attn.heads, block.attn.head_dim)
            for kind in ("transformer_blocks", "single_transformer_blocks")
            for index, block in enumerate(getattr(model, kind))
        ]

    def rotates(self, model: Model) -> bool:
        return not isinstance(model.pos_embed, PositionsAsTable)

    def default_options(self, model: Model) -> dict[str, Any]:
        return {"axes_dim": tuple(model.config.axes_dims_rope)}

    def embedder(self, model: Model) -> Model:
        return model.x_embedder

    def register_position_hook(self, model: Model, state: InstallState) -> None:
        handle = model.register_forward_pre_hook(_IdsHook(state), with_kwargs=True)
        state.handles.append(handle)

    def disable_rope(self, model: Model, state: InstallState) -> None:
        state.originals["pos_embed"] = model.pos_embed
        model.pos_embed = PositionsAsTable(state)

    def restore(self, model: Model, state: InstallState) -> None:
        if "pos_embed" in state.originals:
            model.pos_embed = state.originals["pos_embed"]


class PositionsAsTable(nn.Module):
    """Replacement of FLUX's `pos_embed` that returns positions instead of cosines and sines.

    The model passes them to every attention in the place of its table. They are arguments of the
    blocks, so gradient checkpointing recomputes a block with the positions of its own forward.

    Args:
        state: The state of the installation.
    """

    def __init__(self, state: InstallState) -> None:
        super().__init__()
        self.state = state

    def forward(self, ids: Tensor) -> Positions | None:
        """Return the positions of the forward.

        Args:
            ids: (tokens, 3), of text and image.

        Returns:
            (tokens, 3) or (batch, tokens, 3) in float32; None if nothing rotates.
        """
        current = self.state.current
        return current.positions if self.state.layers and current is not None else None


@dataclass(eq=False)
class _IdsHook:
    """Forward pre-hook of the model: the ids of text and image are the positions."""

    state: InstallState

    def __call__(self, model: Model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Their places in the signature of FluxTransformer2DModel.forward.
        image, text = (
            kwargs[name] if name in kwargs else args[place]
            for name, place in (("img_ids", 4), ("txt_ids", 5))
        )
        # Integers up to 256 are exact in bfloat16: ids of 4,096 pixels.
        ids = [part[0] if part.ndim == 3 else part for part in (text, image)]
        self.state.on_forward(torch.cat(ids).float())
