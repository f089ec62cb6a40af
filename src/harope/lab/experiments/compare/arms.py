"""Arms of a comparison: the training variants, and the controls of their baselines.

An arm is specified as a preset with options, such as `harope`, `harope:per_head=false` or
`axial:model.qk_norm=true`. Encoding options are given by name; every other option is the path of a
field in the run's configuration. Arms that differ only in their encoding form a group, whose first
arm is the baseline of the others.

For a given seed, all arms see the same data with the same noise and start from the same weights
outside the encoding. The control with a wider MLP is the exception: its weights have other shapes,
so it starts from weights of its own.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from torch import nn

from harope._utils.suggestions import closest
from harope.integrations.registry import find_integration
from harope.lab.training.serialization import override, to_dict
from harope.lab.training.task import RunConfig
from harope.rope import EncodingConfig, encoding_config

ENCODING, OPTIONS = "model.encoding", "model.encoding_options"

_OPTION_NAMES = frozenset(item.name for item in fields(EncodingConfig))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A training variant of a comparison, trained once per seed."""

    name: str
    """Name in tables: the specification that the user wrote."""
    folder: str
    """Name in paths."""
    kind: Literal["encoding", "wide", "rate"]
    """`encoding` for a compared encoding; `wide` (wider MLPs) and `rate` (another learning rate of
    the query and key projections) for controls of a baseline."""
    changes: dict[str, Any]
    """Configuration fields that differ from the recipe, by path."""
    group: str = ""
    """Settings outside the encoding, as JSON; empty for those of the recipe. Arms of equal `group`
    are compared with the first of them."""

    def config(self, base: RunConfig, seed: int) -> RunConfig:
        """Return the configuration of the run with this seed.

        Args:
            base: Configuration shared by all arms.
            seed: Seed of the run.

        Returns:
            `base` with the arm's changes and the seed.

        Raises:
            ValueError: A field does not exist or its value is invalid.
        """
        return override(base, {**self.changes, "seed": seed})


def parse_arm(text: str, base: RunConfig) -> Arm:
    """Parse the specification `NAME` or `NAME:OPTION=VALUE,...` of an arm.

    Args:
        text: A preset of `harope.list_encodings()`, optionally followed by options of the encoding
            and fields of the configuration.
        base: Configuration shared by all arms.

    Returns:
        The arm; its configuration has been validated.

    Raises:
        ValueError: The preset, an option or a field does not exist, a value is invalid, or an
            option has no effect on the encoding.
    """
    text = text.strip()
    encoding, colon, rest = text.partition(":")
    changes: dict[str, Any] = {ENCODING: encoding}
    outside: dict[str, str] = {}
    # A comma inside brackets is part of a value, not a separator.
    for part in re.split(r",(?![^\[{]*[\]}])", rest) if colon else ():
        option, equals, value = part.partition("=")
        if not (equals and option):
            raise ValueError(
                f"arm {text!r}: {part!r} is not OPTION=VALUE; write options as in "
                f"harope:per_head=false"
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
        meant = [closest(option, _OPTION_NAMES) for option in outside]
        hints = [f" (or the encoding's option {name!r}?)" for name in meant if name]
        raise ValueError(f"arm {text!r}: {error}{''.join(hints)}") from None
    return arm


def resolved_config(arm: Arm, base: RunConfig) -> dict[str, Any]:
    """Return an arm's configuration with the preset resolved to the components of its encoding.

    Two specifications of the same training, such as `harope` and `harope:pairing=inverse`, have
    equal resolved configurations.

    Args:
        arm: Arm to resolve.
        base: Configuration shared by all arms.

    Returns:
        The configuration as nested plain values; `model.encoding` holds the encoding's components.
    """
    values = to_dict(arm.config(base, base.seed))
    model = values["model"]
    parts = asdict(encoding_config(model.pop("encoding"), **model.pop("encoding_options")))
    return values | {"model": model | {"encoding": parts}}


def group_arms(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Group the arms that differ only in their encoding; controls are left out.

    Args:
        arms: All arms of a comparison.

    Returns:
        Groups of at least two arms, each with its baseline first.

    Raises:
        ValueError: An arm is alone in its group, so that it has no baseline.
    """
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        if arm.kind == "encoding":
            groups.setdefault(arm.group, []).append(arm)
    for group in groups.values():
        if len(group) < 2:
            arm = group[0]
            outside = json.loads(arm.group) if arm.group else {}
            settings = ",".join(f"{name}={value}" for name, value in outside.items())
            baseline = f"axial:{settings}" if settings else "axial"
            raise ValueError(
                f"arm {arm.name!r} has no baseline: no other arm has the same settings outside the "
                f"encoding; add one, such as {baseline!r}"
            )
    return list(groups.values())


def wide_control(base: RunConfig, baseline: Arm, model: nn.Module, extra: int) -> Arm | None:
    """Create the control that spends `extra` parameters on wider MLPs of the baseline.

    Args:
        base: Configuration shared by all arms.
        baseline: Arm to widen.
        model: Model of the baseline.
        extra: Number of parameters to add; the control has the nearest number that an integer
            number of hidden channels allows.

    Returns:
        The control, or None if `extra` is less than half a channel per MLP or the model's
        configuration has no `mlp_ratio`.
    """
    if not hasattr(_model_config(base), "mlp_ratio"):
        return None
    # The MLPs of the DiT and of timm's ViT are two linear layers with biases: a hidden channel
    # adds width + 1 parameters to the first and width to the second.
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
        changes={**baseline.changes, "model.mlp_ratio": mlp_ratio_for(width, wider)},
    )


def mlp_ratio_for(width: int, hidden: int) -> float:
    """Return an MLP ratio with `int(width * ratio) == hidden`.

    Args:
        width: Width of the model.
        hidden: Hidden channels of the MLPs.

    Returns:
        The ratio.
    """
    ratio = hidden / width
    # Rounding can bring the product just below `hidden`; then aim at the middle of the interval.
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def lr_controls(baseline: Arm, factors: Sequence[float]) -> list[Arm]:
    """Create controls: the baseline with other learning rates of the query and key projections.

    Without QK-norm, the basis of an encoding is a reparametrisation of these projections, which
    changes their effective learning rate.

    Args:
        baseline: Arm to control.
        factors: Multipliers of the learning rate, one per control.

    Returns:
        One control per factor.
    """
    return [
        replace(
            baseline,
            name=f"{baseline.name} (qk rate x {factor:g})",
            folder=f"{baseline.folder}-qk-{factor:g}",
            kind="rate",
            changes={**baseline.changes, "optimizer.qk_lr_multiplier": factor},
        )
        for factor in factors
    ]


def has_basis(config: RunConfig) -> bool:
    """Return whether the run's encoding applies a basis other than the identity.

    Args:
        config: Configuration of a run.

    Returns:
        True if queries and keys are multiplied by matrices.
    """
    model = _model_config(config)
    return encoding_config(model.encoding, **model.encoding_options).basis != "identity"


def basis_reparametrises_projections(model: nn.Module) -> bool:
    """Return whether a basis is merely a reparametrisation of the model's projections.

    It is if the projections of queries and keys are trained and no norm follows them (the
    integration lists no projections behind QK-norm).

    Args:
        model: Model that an integration of `harope.integrations` supports.

    Returns:
        True if the model has such projections.
    """
    host = find_integration(model)
    return any(
        part.weight.requires_grad
        for layer in host.layers(model)
        for part in host.projections(layer.attention)
    )


def _model_config(config: RunConfig) -> Any:
    # Every subclass of RunConfig has a field `model`, of another class each; RunConfig has none.
    values: Any = config
    return values.model
