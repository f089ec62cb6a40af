"""What is trained beside what: the encodings, and the controls of the first of them.

All arms share the seeds, and so the order of the data, the noise and all weights outside the
encodings; a wider MLP alone has other shapes, and weights of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from harope.hosts.registry import find_host
from harope.rope import encoding_config
from harope.training.codec import override
from harope.training.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train; each is trained once per seed."""

    name: str
    """As tables call it."""
    folder: str
    """As files are called."""
    kind: Literal["encoding", "wide", "rate"]
    """An encoding, or which control of the baseline."""
    changes: dict[str, Any]
    """Fields of the configuration, by path."""

    def config(self, base: RunConfig, seed: int) -> RunConfig:
        """The configuration of one of its runs."""
        return override(base, {**self.changes, "seed": seed})


def encoding_arm(encoding: str) -> Arm:
    """An encoding of `harope.list_encodings()`."""
    return Arm(
        name=encoding, folder=encoding, kind="encoding", changes={"model.encoding": encoding}
    )


def wide_arm(base: RunConfig, baseline: str, model: nn.Module, extra: int) -> Arm | None:
    """The baseline with `extra` parameters more, or as near as whole channels come, in its MLPs.

    `model` is the baseline's. None where that is less than half a channel of each, and for models
    whose MLPs have no ratio to set.
    """
    # Every subclass of RunConfig names its model; their type is unknown here.
    if not hasattr(base.model, "mlp_ratio"):  # type: ignore[attr-defined]
        return None
    # The DiT and timm's ViT: two layers with biases.
    blocks: Any = model.blocks
    width, hidden = blocks[0].mlp.fc1.in_features, blocks[0].mlp.fc1.out_features
    wider = hidden + round(extra / (len(blocks) * (2 * width + 1)))
    if wider <= hidden:
        return None
    return Arm(
        name=f"{baseline} (MLP {wider})",
        folder=f"{baseline}-mlp-{wider}",
        kind="wide",
        changes={"model.encoding": baseline, "model.mlp_ratio": ratio_for(width, wider)},
    )


def ratio_for(width: int, hidden: int) -> float:
    """The ratio whose product with the width, cut to whole channels, is `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def rate_arms(baseline: str, factors: Sequence[float]) -> list[Arm]:
    """The baseline with other rates for the weights of queries and keys.

    Without QK-norm a basis is a reparametrisation of these weights, which changes their rate.
    """
    return [
        Arm(
            name=f"{baseline} (qk rate x {factor:g})",
            folder=f"{baseline}-qk-{factor:g}",
            kind="rate",
            changes={"model.encoding": baseline, "optimizer.query_key_rate": factor},
        )
        for factor in factors
    ]


def has_basis(base: RunConfig, encoding: str) -> bool:
    """Whether an encoding maps queries and keys before it turns them."""
    options = base.model.encoding_options  # type: ignore[attr-defined]
    return encoding_config(encoding, **options).basis != "identity"


def projects_freely(model: nn.Module) -> bool:
    """Whether queries and keys meet the encoding as a trained projection makes them, without a
    norm between.
    """
    host = find_host(model)
    return any(
        part.weight.requires_grad
        for layer in host.layers(model)
        for part in host.projections(layer.attention)
    )
