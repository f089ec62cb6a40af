"""Shared base of the transformers of diffusers: where their attentions apply an encoding.

Where the model has QK-norm and keeps its own rotation or has none, the encoding is A alone: forward
hooks on the norms apply it, and the model's own attention processors stay. Otherwise a processor of
harope (`processors.py`) takes the place of the default one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from harope.integrations.attention import AttentionHook, hook_of
from harope.integrations.base import InstallState, Integration, Layer
from harope.integrations.forward import Model
from harope.rope import EncodingConfig, RotaryEncoding, apply_matrices

STOCK = ("AttnProcessor", "AttnProcessor2_0", "JointAttnProcessor2_0", "FluxAttnProcessor")
"""Default processors: only these are replaced, and only these are known to call the norms."""

NORMS = (("norm_q", 0), ("norm_k", 1), ("norm_added_q", 0), ("norm_added_k", 1))
"""QK-norms of an attention, those of the text last, and the side whose matrix they get."""


class DiffusersIntegration(Integration):
    """A transformer of diffusers whose attentions have processors."""

    passes_positions = True
    refused_methods: Mapping[str, str] = {
        **Integration.refused_methods,
        "save_pretrained": "from_pretrained would drop the encoding from what save_pretrained "
        "writes: write it by harope.save_encoding(model, folder), call harope.remove(model) before "
        "save_pretrained, and read both by from_pretrained and harope.load_encoding",
    }
    processor: str
    """Name of the processor, in `processors.py`, that applies the whole encoding."""
    heads_first: bool
    """Whether norms get (batch, heads, tokens, head_dim), not (batch, tokens, heads, head_dim)."""

    def check(self, model: Model, config: EncodingConfig) -> None:
        for layer in self.layers(model):
            name = type(layer.attention.processor).__name__
            if name not in STOCK:
                raise ValueError(
                    f"{layer.name} has the processor {name}, which the encoding's would replace: "
                    f"set the model's default processors first"
                )

    def attach(self, layer: Layer, state: InstallState) -> None:
        attention = layer.attention
        if _acts_on_norms(attention):
            for norm, side in _norms(attention):
                hook = NormHook(hook_of(attention), side, self.heads_first)
                state.handles.append(norm.register_forward_hook(hook))
            return
        # Imports diffusers.
        from harope.integrations.diffusers import processors

        state.originals[layer.name] = previous = attention.processor
        processor = getattr(processors, self.processor)()
        for name in ("_attention_backend", "_parallel_config"):
            if hasattr(processor, name) and getattr(previous, name, None) is not None:
                setattr(processor, name, getattr(previous, name))
        attention.set_processor(processor)

    def detach(self, layer: Layer, state: InstallState) -> None:
        if layer.name in state.originals:
            layer.attention.set_processor(state.originals.pop(layer.name))

    def check_attached(self, layer: Layer) -> None:
        name = type(layer.attention.processor).__name__
        expected = STOCK if _acts_on_norms(layer.attention) else (self.processor,)
        if name not in expected:
            raise ValueError(
                f"{layer.name} has got the processor {name}, so its encoding would be left out or "
                f"applied to other queries: undo what set it (IP-Adapter, fused projections), or "
                f"call harope.remove(model)"
            )


@dataclass(eq=False)
class NormHook:
    """Forward hook of a norm of queries or keys that applies A to its output."""

    hook: AttentionHook
    """The attention's hook."""
    side: int
    """0: queries; 1: keys."""
    heads_first: bool
    """Whether the output is (batch, heads, tokens, head_dim), not (batch, tokens, heads, ...)."""

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        matrices = self.hook.matrices()
        if matrices is None:
            return output
        if self.heads_first:
            return apply_matrices(output, matrices[self.side])
        return apply_matrices(output.transpose(1, 2), matrices[self.side]).transpose(1, 2)


def _norms(attention: Model) -> list[tuple[Any, int]]:
    """List the attention's QK-norms and the side whose matrix they get."""
    found = [(getattr(attention, name, None), side) for name, side in NORMS]
    return [(norm, side) for norm, side in found if norm is not None]


def _acts_on_norms(attention: Model) -> bool:
    """Return whether hooks on the norms apply the whole encoding, which does not rotate."""
    encoding = attention.harope.unwrapped
    rotates = not isinstance(encoding, RotaryEncoding) or encoding.frequencies is not None
    return not rotates and attention.norm_q is not None
