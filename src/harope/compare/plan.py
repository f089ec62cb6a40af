"""Which runs a comparison is made of."""

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from harope.compare.arms import (
    Arm,
    encoding_arm,
    has_basis,
    projects_freely,
    rate_arms,
    wide_arm,
)
from harope.compare.drawn import DrawnConfig
from harope.training.config import RunConfig
from harope.training.registry import create_task


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is compared, and how surely."""

    encodings: tuple[str, ...]
    """The first is the baseline that all others are compared with."""
    seeds: tuple[int, ...]
    """Each arm is trained once with each."""
    wide: bool = True
    """Whether the baseline is also trained with the parameters that others have more, in MLPs."""
    rates: tuple[float, ...] = (0.5, 2.0, 4.0)
    """Factors on the rate of the baseline's queries and keys to try; none for no such control."""
    drawn: DrawnConfig = field(default_factory=DrawnConfig)
    """Pictures of each run, and what they are measured against."""
    workers: int | None = None
    """Runs side by side; by default one per GPU, or per core of a CPU."""

    def __post_init__(self) -> None:
        for name, values, least in (("encodings", self.encodings, 2), ("seeds", self.seeds, 2)):
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


@dataclass(frozen=True)
class Plan:
    """All arms of a comparison."""

    arms: tuple[Arm, ...]
    """The baseline first."""
    parameters: dict[str, int]
    """Trained parameters by arm."""
    wide_of: dict[str, str]
    """By encoding, the baseline that has as many parameters."""
    notes: tuple[str, ...]
    """Controls that could not be made, and why."""


def plan_comparison(config: CompareConfig, base: RunConfig) -> Plan:
    """Make every model once, so that what does not fit is known before anything trains.

    Raises ValueError for an encoding that is unknown or does not fit the recipe's model.
    """
    config.drawn.check(base)
    baseline, *others = [encoding_arm(name) for name in config.encodings]
    model = _model(baseline, base, config)
    parameters = {baseline.name: _count(model)}
    parameters |= {arm.name: _count(_model(arm, base, config)) for arm in others}
    wide, notes = _wide_arms(config, base, others, parameters, model)
    for arm in wide.values():
        parameters[arm.name] = _count(_model(arm, base, config))
    rates: list[Arm] = []
    if config.rates and any(has_basis(base, arm.name) for arm in others):
        if projects_freely(model):
            rates = rate_arms(baseline.name, config.rates)
        else:
            notes.append(
                "no other rates of queries and keys: they are frozen, or a norm stands behind them"
            )
    parameters |= dict.fromkeys((arm.name for arm in rates), parameters[baseline.name])
    widths = {arm.name: arm for arm in wide.values()}
    return Plan(
        arms=(baseline, *others, *widths.values(), *rates),
        parameters=parameters,
        wide_of={encoding: arm.name for encoding, arm in wide.items()},
        notes=tuple(notes),
    )


def _wide_arms(
    config: CompareConfig,
    base: RunConfig,
    others: list[Arm],
    parameters: dict[str, int],
    model: nn.Module,
) -> tuple[dict[str, Arm], list[str]]:
    """By encoding, and what could not be made."""
    baseline = config.encodings[0]
    wide, notes = {}, []
    for arm in others if config.wide else ():
        extra = parameters[arm.name] - parameters[baseline]
        if extra <= 0:
            continue
        found = wide_arm(base, baseline, model, extra)
        if found is None:
            notes.append(
                f"no {baseline} with the {extra:,} parameters that {arm.name} has more: the MLPs "
                f"cannot be widened by so many"
            )
        else:
            wide[arm.name] = found
    return wide, notes


def _model(arm: Arm, base: RunConfig, config: CompareConfig) -> nn.Module:
    chosen = arm.config(base, config.seeds[0])
    torch.manual_seed(chosen.seed)
    return create_task(chosen, torch.device("cpu")).model


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def quickened(config: RunConfig) -> RunConfig:
    """The same in a sixteenth of the steps, of half the batch: to see that a comparison runs."""
    warmup = config.optimizer.warmup_steps // 16
    return replace(
        config,
        steps=max(1, config.steps // 16),
        batch_size=max(config.accumulation, config.batch_size // 2),
        optimizer=replace(config.optimizer, warmup_steps=warmup),
    )
