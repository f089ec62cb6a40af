"""Paired differences (contrasts) between the arms of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harope.lab.experiments.compare.arms import Arm, group_arms
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.plan import Plan
from harope.lab.experiments.compare.run_metrics import run_metric
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.metrics.intervals import Mean
from harope.lab.training.task import RunConfig

ArmMetrics = Mapping[str, Sequence[Mapping[str, float]]]
"""Metrics of all runs: by arm, one mapping from metric to value per seed, in order."""


@dataclass(frozen=True)
class Contrast:
    """Difference between two arms, paired by seed."""

    arm: str
    """Name of the minuend."""
    other: str
    """Name of the subtrahend."""
    subject: str
    """What the arms differ in, such as `encoding` or `equal parameters`."""

    @property
    def name(self) -> str:
        """The name of the contrast in tables: the arm minus the other."""
        return f"{self.arm} - {self.other}"

    def difference(self, metrics: ArmMetrics, name: str) -> Mean:
        """Return the mean paired difference with its 95 % Student interval.

        Args:
            metrics: Metrics of all runs.
            name: Metric to compare.

        Returns:
            Mean over the seeds, in the unit of tables.
        """
        to_display = run_metric(name).to_display
        pairs = zip(metrics[self.arm], metrics[self.other], strict=True)
        return Mean.of([to_display(a[name]) - to_display(b[name]) for a, b in pairs])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A finished comparison: its arms and seeds, and the metrics of all runs."""

    plan: Plan
    """Arms and controls."""
    config: RunConfig
    """Configuration shared by all runs."""
    seeds: tuple[int, ...]
    """Seeds of the runs of each arm."""
    jobs: Mapping[str, Sequence[Job]]
    """Runs by arm, one per seed."""
    metrics: ArmMetrics
    """Metrics by arm, one mapping per seed."""
    curves: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
    """Lines of `metrics.jsonl`, by arm and seed."""
    scoring: SampleScoreConfig
    """How the runs were sampled and scored."""
    best_rates: Mapping[str, str]
    """By baseline, the arm with its best learning rate of the query and key projections."""
    contrasts: tuple[Contrast, ...]
    """Differences in the order of tables."""

    @property
    def groups(self) -> list[list[str]]:
        """Names of the arms that differ only in their encoding, by group, baseline first."""
        return [[arm.name for arm in group] for group in group_arms(self.plan.arms)]

    @property
    def baselines(self) -> list[str]:
        """The names of the baselines, one per group of arms."""
        return [group[0] for group in self.groups]

    @property
    def metric_names(self) -> list[str]:
        """Names of all metrics, in the order in which runs report them."""
        return list(next(iter(self.metrics.values()))[0])

    def mean(self, arm: str, name: str) -> Mean:
        """Return the mean of a metric over the seeds of an arm.

        Args:
            arm: Name of the arm.
            name: Name of the metric.

        Returns:
            Mean with its 95 % Student interval, in the unit of tables.
        """
        to_display = run_metric(name).to_display
        return Mean.of([to_display(run[name]) for run in self.metrics[arm]])


def list_contrasts(
    arms: Sequence[Arm], wide_controls: Mapping[str, str], best_rates: Mapping[str, str]
) -> list[Contrast]:
    """List the contrasts of a comparison.

    Each encoding is compared with its baseline and the controls of the baseline; then the controls
    are compared with the baseline.

    Args:
        arms: Encodings, with the baseline of each group first, and controls.
        wide_controls: By encoding, the baseline with as many parameters.
        best_rates: By baseline, the arm with its best learning rate of the query and key
            projections.

    Returns:
        Contrasts, group by group.
    """
    contrasts: list[Contrast] = []
    for group in group_arms(arms):
        baseline, *others = (arm.name for arm in group)
        contrasts += [Contrast(name, baseline, "encoding") for name in others]
        contrasts += [
            Contrast(name, wide_controls[name], "equal parameters")
            for name in others
            if name in wide_controls
        ]
        best = best_rates.get(baseline, baseline)
        if best != baseline:
            contrasts += [Contrast(name, best, "baseline's own best rate") for name in others]
        contrasts += [
            Contrast(arm.name, baseline, f"control: {_CONTROLS[arm.kind]}")
            for arm in arms
            if arm.kind != "encoding" and arm.group == group[0].group
        ]
    return contrasts


_CONTROLS = {"wide": "more parameters", "rate": "another rate"}
"""What a control differs in from its baseline, by kind of arm."""


def best_rate_controls(
    arms: Sequence[Arm], metrics: ArmMetrics, criterion: str = "next_loss"
) -> dict[str, str]:
    """Select each baseline's best learning rate of the query and key projections.

    The selection uses the seeds that are compared, which favours the baseline.

    Args:
        arms: Encodings, with the baseline of each group first, and controls.
        metrics: Metrics of all runs.
        criterion: Metric whose mean over the seeds decides.

    Returns:
        By baseline, the name of its best arm, which may be the baseline itself. Baselines without
        rate controls are absent.
    """
    sign = 1 if run_metric(criterion).lower_is_better else -1

    def cost(name: str) -> float:
        return sign * fmean(run[criterion] for run in metrics[name])

    best = {}
    for group in group_arms(arms):
        rates = [arm.name for arm in arms if arm.kind == "rate" and arm.group == group[0].group]
        if rates:
            best[group[0].name] = min([group[0].name, *rates], key=cost)
    return best
