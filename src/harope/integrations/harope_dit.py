"""harope's own DiT, whose attentions apply encodings without hooks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from harope._utils.classes import is_a
from harope.integrations.attention import Projection, packed_projections
from harope.integrations.base import (
    AbsoluteKind,
    InstallState,
    Integration,
    Layer,
)
from harope.integrations.forward import Model
from harope.rope import Absolute, EncodingConfig, NoEncoding, PositionalEncoding
from harope.rope.absolute import SinCos
from harope.rope.presets import BASIS_OPTIONS

ANGLE_OPTIONS = ("frequencies", "theta", "axes_dim", "learned_frequencies", "row_sizes", "layout")
"""Options that determine the angles."""

POSITIONS_INDEX = 3
"""Place of `positions` among the arguments of DiT.forward."""


class HaropeDiTIntegration(Integration):
    """Installing replaces the model's encodings and the part of its configuration naming them."""

    title = "harope.DiT"
    computes_positions = True
    refused_methods: Mapping[str, str] = {}

    def matches(self, model: Model) -> bool:
        return is_a(model, "harope.models.dit.model.DiT")

    def check(self, model: Model, config: EncodingConfig) -> None:
        if config.frequencies == "host":
            raise ValueError(
                "frequencies 'host' leaves the rotation to the model, but a harope.DiT rotates by "
                "its encoding alone: leave frequencies out, or name them"
            )

    def layers(self, model: Model) -> list[Layer]:
        config = model.config
        return [
            Layer(f"blocks.{index}.attn", block.attn, config.num_heads, config.head_dim)
            for index, block in enumerate(model.blocks)
        ]

    def rotates(self, model: Model) -> bool:
        return model.config.encoding_parts.frequencies != "none"

    def keep_rotation_options(self, model: Model) -> dict[str, Any]:
        """Return the present angles, as far as they differ from the default of axial ones."""
        parts, plain = model.config.encoding_parts, EncodingConfig(frequencies="axial")
        kept = {name: getattr(parts, name) for name in ANGLE_OPTIONS}
        return {name: value for name, value in kept.items() if value != getattr(plain, name)}

    def absolute(self, model: Model) -> AbsoluteKind | None:
        own = model.pos_embed
        if not isinstance(own, Absolute):
            return None
        return "sincos" if isinstance(own.embedding, SinCos) else "learned"

    def projections(self, attention: Model) -> list[Projection]:
        return [] if attention.q_norm is not None else packed_projections("qkv", attention.qkv)

    def register_position_hook(self, model: Model, state: InstallState) -> None:
        """Update the configuration; the model computes positions and matrices itself."""
        state.originals["config"] = config = model.config
        model.config = replace(config, encoding=state.name, encoding_options=state.options)

    def attach(self, layer: Layer, state: InstallState) -> None:
        """Do nothing: the attention calls its encoding itself."""

    def disable_rope(self, model: Model, state: InstallState) -> None:
        for layer in self.layers(model):
            state.originals[f"{layer.name}.harope"] = layer.attention.harope
            layer.attention.harope = _no_encoding(model.config)

    def disable_pos_embed(self, model: Model, state: InstallState) -> None:
        state.originals["pos_embed"] = model.pos_embed
        model.pos_embed = _no_encoding(model.config)

    def restore(self, model: Model, state: InstallState) -> None:
        originals = state.originals
        model.config = originals["config"]
        model.pos_embed = originals.get("pos_embed", model.pos_embed)
        for layer in self.layers(model):
            layer.attention.harope = originals.get(f"{layer.name}.harope", layer.attention.harope)

    def finish_fold(self, model: Model, state: InstallState | None) -> None:
        """Record in the configuration that there is no basis any more."""
        given = model.config.encoding_options
        kept = {name: value for name, value in given.items() if name not in BASIS_OPTIONS}
        model.config = replace(model.config, encoding_options={**kept, "basis": "identity"})

    def embedder(self, model: Model) -> Model:
        return model.x_embedder

    def add_embedding(
        self, model: Model, encoding: PositionalEncoding, state: InstallState
    ) -> None:
        state.originals.setdefault("pos_embed", model.pos_embed)
        model.pos_embed = encoding

    def remove_embedding(self, model: Model, state: InstallState) -> None:
        """Do nothing: `restore` brings the previous one back."""

    def embedding_slot(self, model: Model) -> tuple[Model, str]:
        return model, "pos_embed"

    @contextmanager
    def positions_given(
        self, model: Model, positions: Tensor, state: InstallState | None
    ) -> Iterator[None]:
        """Pass the positions to the forwards of the model, which takes them as an argument."""

        def insert(module: Model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if len(args) > POSITIONS_INDEX or kwargs.get("positions") is not None:
                return args, kwargs
            return args, {**kwargs, "positions": positions}

        # The innermost context comes first.
        handle = model.register_forward_pre_hook(insert, with_kwargs=True, prepend=True)
        try:
            yield
        finally:
            handle.remove()


def _no_encoding(config: Any) -> NoEncoding:
    return NoEncoding(num_heads=config.num_heads, head_dim=config.head_dim, num_axes=2)
