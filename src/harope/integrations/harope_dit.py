"""harope's own DiT, whose attentions know encodings already."""

from dataclasses import replace
from typing import Any

from harope.integrations.base import (
    AbsoluteKind,
    Host,
    Layer,
    Model,
    Projection,
    is_a,
    packed_projections,
)
from harope.integrations.state import InstallState
from harope.models.dit.config import DiTConfig
from harope.rope import Absolute, EncodingConfig, NoEncoding, PositionalEncoding
from harope.rope.absolute import SinCos

# What settles the angles.
ANGLES = ("frequencies", "theta", "axes_dim", "learned_frequencies", "row_sizes", "layout")


class HaropeDiTIntegration(Host):
    """Installing exchanges its encodings and the part of its configuration that names them."""

    title = "harope.DiT"

    def matches(self, model: Model) -> bool:
        """By its class."""
        return is_a(model, "harope.models.dit.model.DiT")

    def check(self, model: Model, config: EncodingConfig) -> None:
        """There is no rotation to leave to the model but an encoding's."""
        if config.frequencies == "host":
            raise ValueError(
                "frequencies 'host' leaves the rotation to the model, but a harope.DiT rotates by "
                "its encoding alone: leave frequencies out, or name them"
            )

    def layers(self, model: Model) -> list[Layer]:
        """The attention of every block."""
        config = model.config
        return [
            Layer(f"blocks.{index}.attn", block.attn, config.num_heads, config.head_dim)
            for index, block in enumerate(model.blocks)
        ]

    def rotates(self, model: Model) -> bool:
        """Where its encoding has frequencies."""
        return model.config.encoding_parts.frequencies != "none"

    def kept_rotation(self, model: Model) -> dict[str, Any]:
        """The same angles as now, as far as a new encoding would have others."""
        parts, plain = model.config.encoding_parts, EncodingConfig(frequencies="axial")
        kept = {name: getattr(parts, name) for name in ANGLES}
        return {name: value for name, value in kept.items() if value != getattr(plain, name)}

    def absolute(self, model: Model) -> AbsoluteKind | None:
        """The kind of `pos_embed`."""
        own = model.pos_embed
        if not isinstance(own, Absolute):
            return None
        return "sincos" if isinstance(own.embedding, SinCos) else "learned"

    def embedder(self, model: Model) -> Model:
        """The patch embedding."""
        return model.x_embedder

    def add_embedding(
        self, model: Model, encoding: PositionalEncoding, installation: InstallState
    ) -> None:
        """The model's own place for it."""
        installation.originals.setdefault("pos_embed", model.pos_embed)
        model.pos_embed = encoding

    def remove_embedding(self, model: Model, installation: InstallState) -> None:
        """`restore` brings back what was there."""

    def embedding(self, model: Model) -> PositionalEncoding:
        """The model's."""
        return model.pos_embed

    def watch(self, model: Model, installation: InstallState) -> None:
        """The model computes what its layers share by itself."""
        installation.originals["config"] = config = model.config
        model.config = replace(
            config, encoding=installation.name, encoding_options=installation.options
        )

    def seat(self, layer: Layer, installation: InstallState) -> None:
        """Its attention asks the encoding by itself."""

    def detach(self, layer: Layer, installation: InstallState) -> None:
        """Nothing to undo."""

    def check_attached(self, layer: Layer) -> None:
        """Nothing could take the place."""

    def disable_rope(self, model: Model, installation: InstallState) -> None:
        """Encodings that do nothing."""
        for layer in self.layers(model):
            installation.originals[f"{layer.name}.harope"] = layer.attention.harope
            layer.attention.harope = _nothing(model.config)

    def disable_pos_embed(self, model: Model, installation: InstallState) -> None:
        """No `pos_embed`."""
        installation.originals["pos_embed"] = model.pos_embed
        model.pos_embed = _nothing(model.config)

    def restore(self, model: Model, installation: InstallState) -> None:
        """Encodings and configuration come back."""
        originals = installation.originals
        model.config = originals["config"]
        model.pos_embed = originals.get("pos_embed", model.pos_embed)
        for layer in self.layers(model):
            layer.attention.harope = originals.get(f"{layer.name}.harope", layer.attention.harope)

    def projections(self, attention: Model) -> list[Projection]:
        """The packed projection."""
        if attention.q_norm is not None:
            return []
        return packed_projections("qkv", attention.qkv)


def _nothing(config: DiTConfig) -> NoEncoding:
    return NoEncoding(num_heads=config.num_heads, head_dim=config.head_dim, num_axes=2)
