"""From the measures of all runs to means and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harope.compare.arms import Arm
from harope.compare.drawn import DrawnConfig
from harope.compare.job import Job
from harope.compare.measures import measure_of
from harope.compare.plan import Plan
from harope.evaluation.statistics import Mean
from harope.training.config import RunConfig

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
        shown = measure_of(measure).shown
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
    drawn: DrawnConfig
    """What was drawn of every run."""
    best_rate: str | None
    """The baseline at its own best rate of queries and keys."""
    contrasts: tuple[Contrast, ...]

    @property
    def encodings(self) -> list[str]:
        """Their names, the baseline first."""
        return [arm.name for arm in self.plan.arms if arm.kind == "encoding"]

    @property
    def baseline(self) -> str:
        """What all others are compared with."""
        return self.encodings[0]

    @property
    def measures(self) -> list[str]:
        """Names of all measures, in the order in which runs have them."""
        return list(next(iter(self.values.values()))[0])

    def mean(self, arm: str, measure: str) -> Mean:
        """Over the seeds, in the unit of tables."""
        shown = measure_of(measure).shown
        return Mean.of([shown(found[measure]) for found in self.values[arm]])


def contrasts_of(
    arms: Sequence[Arm], wide_of: Mapping[str, str], best_rate: str | None
) -> list[Contrast]:
    """Every encoding against the first and against the controls, then the controls themselves.

    Args:
        arms: the baseline first.
        wide_of: by encoding, the arm that spends its parameters in the MLPs.
        best_rate: the baseline at its own best rate of queries and keys; None without that control.
    """
    baseline, *others = (arm.name for arm in arms if arm.kind == "encoding")
    found = [Contrast(name, baseline, "encoding") for name in others]
    found += [Contrast(name, wide, "equal parameters") for name, wide in wide_of.items()]
    if best_rate not in (None, baseline):
        assert best_rate is not None
        found += [Contrast(name, best_rate, "baseline's own best rate") for name in others]
    controls = [arm for arm in arms if arm.kind != "encoding"]
    return found + [
        Contrast(arm.name, baseline, f"control: {_CONTROLS[arm.kind]}") for arm in controls
    ]


_CONTROLS = {"wide": "more parameters", "rate": "another rate"}


def best_rate(arms: Sequence[Arm], values: Values, measure: str = "next_loss") -> str | None:
    """The baseline at whichever rate of queries and keys has the best mean, its own included.

    The choice is made on the seeds that are compared, which favours the baseline. None where no
    other rate was tried.
    """
    rates = [arm.name for arm in arms if arm.kind == "rate"]
    if not rates:
        return None
    sign = 1 if measure_of(measure).lower_is_better else -1
    return min(
        [arms[0].name, *rates],
        key=lambda name: sign * fmean(found[measure] for found in values[name]),
    )


def format_mean(mean: Mean, form: str) -> str:
    """`+1.2 [-0.3, +2.7]`."""
    return f"{mean.value:{form}} [{mean.low:{form}}, {mean.high:{form}}]"
