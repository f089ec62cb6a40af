"""Arms of a comparison: each way to train, and the controls of their baselines.

An arm is written as a preset with options, such as `harope`, `harope:per_head=false` or
`axial:model.qk_norm=true`. Options of the encoding need no path, all others are fields of the
run's configuration. Arms that agree in everything but the encoding form a group, and the first arm
of a group is the baseline of the others.

At one seed all arms see the same data with the same noise, and all weights outside the encodings
start alike; a wider MLP alone has other shapes, and weights of its own.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

from torch import nn

from harope.integrations.registry import find_integration
from harope.lab.training.config import RunConfig
from harope.lab.training.serialization import override, to_dict
from harope.rope import EncodingConfig, encoding_config

ENCODING, OPTIONS = "model.encoding", "model.encoding_options"

_OPTION_NAMES = frozenset(item.name for item in fields(EncodingConfig))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train; each is trained once per seed."""

    name: str
    """Name in tables: the text that it was written as."""
    folder: str
    """Name in paths."""
    kind: Literal["encoding", "wide", "rate"]
    """An encoding, or which control of its baseline."""
    changes: dict[str, Any]
    """Fields of the configuration, by path."""
    group: str = ""
    """Settings outside the encoding, as JSON; arms are compared with the first one of their group.
    Empty where the recipe's own settings hold."""

    def config(self, base: RunConfig, seed: int) -> RunConfig:
        """The configuration of one of its runs."""
        return override(base, {**self.changes, "seed": seed})


def parse_arm(text: str, base: RunConfig) -> Arm:
    """The arm that `NAME` or `NAME:OPTION=VALUE,...` describes.

    Args:
        text: a preset of `harope.list_encodings()`, and what differs from it and from the recipe.
        base: the configuration that all arms have in common.

    Raises ValueError for a preset, option or field that does not exist, a value that does not fit,
    and an option without effect on the encoding.
    """
    text = text.strip()
    encoding, colon, rest = text.partition(":")
    changes: dict[str, Any] = {ENCODING: encoding}
    outside: dict[str, str] = {}
    # Commas inside brackets belong to a value.
    for part in re.split(r",(?![^\[{]*[\]}])", rest) if colon else ():
        option, equals, value = part.partition("=")
        if not (equals and option):
            raise ValueError(
                f"arm {text!r}: {part!r} is not OPTION=VALUE: write it as harope:per_head=false"
            )
        option = option.strip().removeprefix("encoding_options.").removeprefix(f"{OPTIONS}.")
        if option in _OPTION_NAMES:
            changes[f"{OPTIONS}.{option}"] = value
        else:
            changes[option] = outside[option] = value
    arm = Arm(
        name=text,
        folder=re.sub(r"[^\w.+]+", "-", text).strip("-"),
        kind="encoding",
        changes=changes,
        group=json.dumps(outside, sort_keys=True) if outside else "",
    )
    try:
        arm.config(base, base.seed)
    except ValueError as error:
        meant = [get_close_matches(option, _OPTION_NAMES, n=1) for option in outside]
        hints = [f" (or the encoding's option {names[0]!r}?)" for names in meant if names]
        raise ValueError(f"arm {text!r}: {error}{''.join(hints)}") from None
    return arm


def resolved(arm: Arm, base: RunConfig) -> dict[str, Any]:
    """What an arm's runs are made of, whatever names it goes by: equal for equal arms."""
    values = to_dict(arm.config(base, base.seed))
    model = values["model"]
    parts = asdict(encoding_config(model.pop("encoding"), **model.pop("encoding_options")))
    return values | {"model": model | {"encoding": parts}}


def groups_of(arms: Sequence[Arm]) -> list[list[Arm]]:
    """The encodings among the arms by group, the baseline of each first.

    Raises ValueError where an arm has no other one to be compared with.
    """
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        if arm.kind == "encoding":
            found.setdefault(arm.group, []).append(arm)
    for group in found.values():
        if len(group) < 2:
            arm = group[0]
            outside = json.loads(arm.group) if arm.group else {}
            kept = ",".join(f"{name}={value}" for name, value in outside.items())
            baseline = f"axial:{kept}" if kept else "axial"
            raise ValueError(
                f"arm {arm.name!r} has no baseline: no other arm has the same settings outside the "
                f"encoding; add one, such as {baseline!r}"
            )
    return list(found.values())


def wide_arm(base: RunConfig, baseline: Arm, model: nn.Module, extra: int) -> Arm | None:
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
    return replace(
        baseline,
        name=f"{baseline.name} (MLP {wider})",
        folder=f"{baseline.folder}-mlp-{wider}",
        kind="wide",
        changes={**baseline.changes, "model.mlp_ratio": ratio_for(width, wider)},
    )


def ratio_for(width: int, hidden: int) -> float:
    """The ratio whose product with the width, cut to whole channels, is `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def rate_arms(baseline: Arm, factors: Sequence[float]) -> list[Arm]:
    """The baseline with other learning rates for the projections of queries and keys.

    Without QK-norm a basis is a reparametrisation of these weights, which changes their rate.
    """
    return [
        replace(
            baseline,
            name=f"{baseline.name} (qk rate x {factor:g})",
            folder=f"{baseline.folder}-qk-{factor:g}",
            kind="rate",
            changes={**baseline.changes, "optimizer.query_key_rate": factor},
        )
        for factor in factors
    ]


def has_basis(config: RunConfig) -> bool:
    """Whether the encoding of a run maps queries and keys before it rotates them."""
    model: Any = config.model  # type: ignore[attr-defined]
    return encoding_config(model.encoding, **model.encoding_options).basis != "identity"


def projects_freely(model: nn.Module) -> bool:
    """Whether queries and keys meet the encoding as a trained projection makes them, without a
    norm between.
    """
    host = find_integration(model)
    return any(
        part.weight.requires_grad
        for layer in host.layers(model)
        for part in host.projections(layer.attention)
    )
