"""Which runs a comparison is made of."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from harope.lab.experiments.compare.arms import (
    Arm,
    group_arms,
    has_basis,
    parse_arm,
    basis_reparametrises_projections,
    lr_controls,
    resolved_config,
    wide_control,
)
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.training.config import RunConfig
from harope.lab.training.registry import create_task


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is compared, and how surely."""

    arms: tuple[str, ...]
    """Presets with options, see harope.lab.experiments.compare.arms. Of those with equal settings
    outside the encoding, the first is the baseline of the others."""
    seeds: tuple[int, ...]
    """Each arm is trained once with each."""
    wide: bool = True
    """Whether the baseline is also trained with the parameters that others have more, in MLPs."""
    rates: tuple[float, ...] = (0.5, 2.0, 4.0)
    """Factors on the rate of the baseline's queries and keys to try; none for no such control."""
    scoring: SampleScoreConfig = field(default_factory=SampleScoreConfig)
    """Pictures of each run, and what they are measured against."""
    workers: int | None = None
    """Runs side by side; by default one per GPU, or per core of a CPU."""
    nice: int = 0
    """Niceness added to that of the runs, 0 to 19: at 19 they take what other work leaves over."""

    def __post_init__(self) -> None:
        for name, values, least in (("arms", self.arms, 2), ("seeds", self.seeds, 2)):
            if len(values) < least:
                raise ValueError(
                    f"{name} {values} are {len(values)}: a paired comparison with an interval "
                    f"needs at least {least}"
                )
            if len(set(values)) < len(values):
                raise ValueError(f"{name} {values} name one twice: leave it out")
        if any(rate <= 0 or rate == 1 for rate in self.rates):
            raise ValueError(f"rates {self.rates} must be positive and not 1, the baseline's own")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers {self.workers} must be at least 1")
        if not 0 <= self.nice <= 19:
            raise ValueError(f"nice {self.nice} must lie in 0 to 19")


@dataclass(frozen=True)
class Plan:
    """All arms of a comparison."""

    arms: tuple[Arm, ...]
    """The encodings in the order given, then the controls."""
    parameters: dict[str, int]
    """Trained parameters by arm."""
    wide_controls: dict[str, str]
    """By arm, the wider baseline that has as many parameters."""
    notes: tuple[str, ...]
    """Controls that could not be made, and why."""


def plan_comparison(config: CompareConfig, base: RunConfig) -> Plan:
    """Make every model once, so that what does not fit is known before anything trains.

    Raises ValueError for an arm that does not exist, does not fit the recipe's model, has an option
    without effect, is the same as another one, or has no baseline.
    """
    config.scoring.check(base)
    arms = [parse_arm(text, base) for text in config.arms]
    _check_different(arms, base)
    groups = group_arms(arms)
    parameters = {arm.name: _count(_model(arm, base, config)) for arm in arms}
    controls: list[Arm] = []
    wide_controls: dict[str, str] = {}
    notes: list[str] = []
    for baseline, *others in groups:
        model = _model(baseline, base, config)
        wide = _wide_arms(config, base, baseline, others, parameters, model, notes)
        wide_controls |= {name: arm.name for name, arm in wide.items()}
        widths = {arm.name: arm for arm in wide.values()}
        parameters |= {name: _count(_model(arm, base, config)) for name, arm in widths.items()}
        rates = _rate_arms(config, base, baseline, others, model, notes)
        parameters |= dict.fromkeys((arm.name for arm in rates), parameters[baseline.name])
        controls += [*widths.values(), *rates]
    return Plan(arms=(*arms, *controls), parameters=parameters, wide_controls=wide_controls, notes=tuple(notes))


def _check_different(arms: list[Arm], base: RunConfig) -> None:
    seen: list[tuple[Arm, dict[str, Any]]] = []
    for arm in arms:
        values = resolved_config(arm, base)
        same = next((other for other, theirs in seen if theirs == values), None)
        if same is not None:
            raise ValueError(
                f"arms {same.name!r} and {arm.name!r} are the same: leave one of them out"
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
    """Wider baselines by the arm that they match; `notes` says which could not be made."""
    found = {}
    for arm in others if config.wide else ():
        extra = parameters[arm.name] - parameters[baseline.name]
        if extra <= 0:
            continue
        wide = wide_control(base, baseline, model, extra)
        if wide is None:
            notes.append(
                f"no {baseline.name} with the {extra:,} parameters that {arm.name} has more: the "
                f"MLPs cannot be widened by so many"
            )
        else:
            found[arm.name] = wide
    return found


def _rate_arms(
    config: CompareConfig,
    base: RunConfig,
    baseline: Arm,
    others: list[Arm],
    model: nn.Module,
    notes: list[str],
) -> list[Arm]:
    """Other rates of queries and keys, where an arm has a basis and no norm is in the way."""
    if not (config.rates and any(has_basis(arm.config(base, base.seed)) for arm in others)):
        return []
    if basis_reparametrises_projections(model):
        return lr_controls(baseline, config.rates)
    notes.append(
        f"no other rates of queries and keys for {baseline.name}: they are frozen, or a norm "
        f"stands behind them"
    )
    return []


def _model(arm: Arm, base: RunConfig, config: CompareConfig) -> nn.Module:
    chosen = arm.config(base, config.seeds[0])
    torch.manual_seed(chosen.seed)
    return create_task(chosen, torch.device("cpu")).model


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def quick_config(config: RunConfig) -> RunConfig:
    """The same in a sixteenth of the steps, of half the batch: to see that a comparison runs."""
    warmup = config.optimizer.warmup_steps // 16
    return replace(
        config,
        steps=max(1, config.steps // 16),
        batch_size=max(config.accumulation, config.batch_size // 2),
        optimizer=replace(config.optimizer, warmup_steps=warmup),
    )
