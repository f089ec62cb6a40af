"""Plan of a comparison: its arms and controls."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from harope._utils.field_checks import AT_LEAST_ONE, check_range
from harope.lab.experiments.compare.arms import (
    Arm,
    basis_reparametrises_projections,
    group_arms,
    has_basis,
    lr_controls,
    parse_arm,
    resolved_config,
    wide_control,
)
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks import create_task


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What a comparison trains, how it scores the runs, and which controls it adds."""

    arms: tuple[str, ...]
    """Arms as presets with options, see `harope.lab.experiments.compare.arms`; at least two. Among
    arms that differ only in their encoding, the first is the baseline of the others."""
    seeds: tuple[int, ...]
    """Seeds; each arm is trained once with each. At least two, for an interval."""
    wide: bool = True
    """Whether to train controls of the baseline with as many parameters as the other arms, spent
    on wider MLPs."""
    rates: tuple[float, ...] = (0.5, 2.0, 4.0)
    """Multipliers of the learning rate of the baseline's query and key projections, one control
    each; empty for no such controls."""
    scoring: SampleScoreConfig = field(default_factory=SampleScoreConfig)
    """How each run is sampled and scored."""
    workers: int | None = None
    """Number of runs in parallel; None for one per GPU, or one per CPU core without a GPU."""
    nice: int = 0
    """Niceness to add to the runs, 0 to 19; at 19 they only use CPU time that nothing else does."""

    def __post_init__(self) -> None:
        for name, values, least in (("arms", self.arms, 2), ("seeds", self.seeds, 2)):
            if len(values) < least:
                raise ValueError(
                    f"{name} {values} has {len(values)} entries, but a paired comparison with an "
                    f"interval needs at least {least}"
                )
            if len(set(values)) < len(values):
                raise ValueError(f"{name} {values} contains duplicates; remove them")
        if any(not 0 < rate < math.inf or rate == 1 for rate in self.rates):
            raise ValueError(
                f"rates {self.rates} must be positive and not 1; a factor of 1 is the baseline "
                f"itself"
            )
        check_range(self, AT_LEAST_ONE, "workers")
        if not 0 <= self.nice <= 19:
            raise ValueError(f"nice {self.nice} must be in the range 0 to 19")


@dataclass(frozen=True)
class Plan:
    """Arms and controls of a comparison."""

    arms: tuple[Arm, ...]
    """Encodings in the order given, then the controls."""
    parameters: dict[str, int]
    """Number of trained parameters by arm."""
    wide_controls: dict[str, str]
    """By arm, the wider baseline with as many parameters."""
    notes: tuple[str, ...]
    """Controls that the model does not allow, and why."""


def plan_comparison(config: CompareConfig, base: RunConfig) -> Plan:
    """Plan the arms and controls of a comparison.

    Every model is created once, so that errors surface before anything is trained.

    Args:
        config: Options of the comparison.
        base: Configuration shared by all arms.

    Returns:
        The plan.

    Raises:
        ValueError: An arm does not exist, does not fit the recipe's model, has an option without
            effect, equals another arm, or has no baseline; or the samples cannot be scored.
    """
    config.scoring.check(base)
    arms = [parse_arm(text, base) for text in config.arms]
    _check_different(arms, base)
    groups = group_arms(arms)
    parameters = {arm.name: _count_parameters(_create_model(arm, base, config)) for arm in arms}
    controls: list[Arm] = []
    wide_controls: dict[str, str] = {}
    notes: list[str] = []
    for baseline, *others in groups:
        model = _create_model(baseline, base, config)
        wide = _wide_arms(config, base, baseline, others, parameters, model, notes)
        wide_controls |= {name: arm.name for name, arm in wide.items()}
        widths = {arm.name: arm for arm in wide.values()}
        parameters |= {
            name: _count_parameters(_create_model(arm, base, config))
            for name, arm in widths.items()
        }
        rates = _rate_arms(config, base, baseline, others, model, notes)
        parameters |= dict.fromkeys((arm.name for arm in rates), parameters[baseline.name])
        controls += [*widths.values(), *rates]
    return Plan(
        arms=(*arms, *controls),
        parameters=parameters,
        wide_controls=wide_controls,
        notes=tuple(notes),
    )


def _check_different(arms: list[Arm], base: RunConfig) -> None:
    seen: list[tuple[Arm, dict[str, Any]]] = []
    for arm in arms:
        values = resolved_config(arm, base)
        same = next((other for other, others in seen if others == values), None)
        if same is not None:
            raise ValueError(
                f"arms {same.name!r} and {arm.name!r} are the same training; remove one of them"
            )
        seen.append((arm, values))


def _wide_arms(
    config: CompareConfig,
    base: RunConfig,
    baseline: Arm,
    others: list[Arm],
    parameters: dict[str, int],
    model: nn.Module,
    notes: list[str],
) -> dict[str, Arm]:
    """Return the wider baselines by the arm that they match, and append failures to `notes`."""
    controls = {}
    for arm in others if config.wide else ():
        extra = parameters[arm.name] - parameters[baseline.name]
        if extra <= 0:
            continue
        wide = wide_control(base, baseline, model, extra)
        if wide is None:
            notes.append(
                f"no control of {baseline.name} with the {extra:,} additional parameters of "
                f"{arm.name}: the MLPs cannot be widened by that number"
            )
        else:
            controls[arm.name] = wide
    return controls


def _rate_arms(
    config: CompareConfig,
    base: RunConfig,
    baseline: Arm,
    others: list[Arm],
    model: nn.Module,
    notes: list[str],
) -> list[Arm]:
    """Return learning-rate controls if a basis of the group reparametrises the projections."""
    if not (config.rates and any(has_basis(arm.config(base, base.seed)) for arm in others)):
        return []
    if basis_reparametrises_projections(model):
        return lr_controls(baseline, config.rates)
    notes.append(
        f"no learning-rate controls for {baseline.name}: its query and key projections are frozen "
        f"or followed by a norm"
    )
    return []


def _create_model(arm: Arm, base: RunConfig, config: CompareConfig) -> nn.Module:
    chosen = arm.config(base, config.seeds[0])
    torch.manual_seed(chosen.seed)
    return create_task(chosen, torch.device("cpu")).model


def _count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def quick_config(config: RunConfig) -> RunConfig:
    """Shorten a run to a sixteenth of its steps and half of its batch size, for a quick check.

    Args:
        config: Configuration of the full run.

    Returns:
        The shortened configuration, with a sixteenth of the warm-up steps.
    """
    warmup = config.optimizer.warmup_steps // 16
    return replace(
        config,
        steps=max(1, config.steps // 16),
        batch_size=max(config.accumulation, config.batch_size // 2),
        optimizer=replace(config.optimizer, warmup_steps=warmup),
    )
