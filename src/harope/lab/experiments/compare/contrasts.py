"""From the measures of all runs to means and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harope.lab.experiments.compare.arms import Arm, group_arms
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.run_metrics import run_metric
from harope.lab.experiments.compare.plan import Plan
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.metrics.intervals import Mean
from harope.lab.training.config import RunConfig

Values = Mapping[str, Sequence[Mapping[str, float]]]
"""Measures by name, per seed in order, by arm."""


@dataclass(frozen=True)
class Contrast:
    """One arm against another, seed by seed."""

    arm: str
    other: str
    why: str
    """What the difference speaks of."""

    @property
    def name(self) -> str:
        """As tables call it."""
        return f"{self.arm} - {self.other}"

    def difference(self, values: Values, measure: str) -> Mean:
        """Mean and Student's 95 % interval of the paired differences, in the unit of tables."""
        shown = run_metric(measure).shown
        pairs = zip(values[self.arm], values[self.other], strict=True)
        return Mean.of([shown(mine[measure]) - shown(theirs[measure]) for mine, theirs in pairs])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that was found."""

    plan: Plan
    config: RunConfig
    """What all runs have in common."""
    seeds: tuple[int, ...]
    jobs: Mapping[str, Sequence[Job]]
    """By arm, one per seed."""
    values: Values
    curves: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
    """Lines of metrics, by arm and seed."""
    scoring: SampleScoreConfig
    """What was drawn of every run."""
    best_rates: Mapping[str, str]
    """By baseline, the arm at its own best rate of queries and keys."""
    contrasts: tuple[Contrast, ...]

    @property
    def groups(self) -> list[list[str]]:
        """Names of the arms that differ by their encoding alone, the baseline of each first."""
        return [[arm.name for arm in group] for group in group_arms(self.plan.arms)]

    @property
    def baselines(self) -> list[str]:
        """What the other arms of each group are compared with."""
        return [group[0] for group in self.groups]

    @property
    def measures(self) -> list[str]:
        """Names of all measures, in the order in which runs have them."""
        return list(next(iter(self.values.values()))[0])

    def mean(self, arm: str, measure: str) -> Mean:
        """Over the seeds, in the unit of tables."""
        shown = run_metric(measure).shown
        return Mean.of([shown(found[measure]) for found in self.values[arm]])


def list_contrasts(
    arms: Sequence[Arm], wide_controls: Mapping[str, str], best_rates: Mapping[str, str]
) -> list[Contrast]:
    """Every arm against its baseline and the controls of it, then the controls themselves.

    Args:
        arms: encodings, the baseline of each group first, and controls.
        wide_controls: by encoding, the arm that spends its parameters in the MLPs.
        best_rates: by baseline, the arm at its best rate of queries and keys.
    """
    found: list[Contrast] = []
    for group in group_arms(arms):
        baseline, *others = (arm.name for arm in group)
        found += [Contrast(name, baseline, "encoding") for name in others]
        found += [Contrast(n, wide_controls[n], "equal parameters") for n in others if n in wide_controls]
        best = best_rates.get(baseline, baseline)
        if best != baseline:
            found += [Contrast(name, best, "baseline's own best rate") for name in others]
        found += [
            Contrast(arm.name, baseline, f"control: {_CONTROLS[arm.kind]}")
            for arm in arms
            if arm.kind != "encoding" and arm.group == group[0].group
        ]
    return found


_CONTROLS = {"wide": "more parameters", "rate": "another rate"}


def best_rate_controls(
    arms: Sequence[Arm], values: Values, measure: str = "next_loss"
) -> dict[str, str]:
    """By baseline, whichever rate of its queries and keys has the best mean, its own included.

    The choice is made on the seeds that are compared, which favours the baseline. Baselines for
    which no other rate was tried are left out.
    """
    sign = 1 if run_metric(measure).lower_is_better else -1

    def badness(name: str) -> float:
        return sign * fmean(found[measure] for found in values[name])

    best = {}
    for group in group_arms(arms):
        rates = [arm.name for arm in arms if arm.kind == "rate" and arm.group == group[0].group]
        if rates:
            best[group[0].name] = min([group[0].name, *rates], key=badness)
    return best


def format_mean(mean: Mean, form: str) -> str:
    """`+1.2 [-0.3, +2.7]`."""
    return f"{mean.value:{form}} [{mean.low:{form}}, {mean.high:{form}}]"
