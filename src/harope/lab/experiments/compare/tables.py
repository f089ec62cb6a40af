"""Tables and paragraphs of a comparison, for the terminal and for pages."""

import json
import shlex
from typing import Any

from harope.lab.experiments.compare.contrasts import Comparison, Contrast
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.run_metrics import run_metric
from harope.lab.metrics.intervals import format_mean
from harope.lab.recipes import get_recipe
from harope.lab.reporting.conclusions import list_findings
from harope.lab.training.serialization import flat, to_dict

Rows = list[tuple[str, ...]]
"""A table: the header, then one tuple of cells per row."""


def difference_rows(comparison: Comparison) -> Rows:
    """Return the table of paired differences, with a star where an interval excludes zero.

    Args:
        comparison: Results of the comparison.

    Returns:
        One row per contrast and one column per metric.
    """
    rows: Rows = [("difference", "subject", *(_title(name) for name in comparison.metric_names))]
    for contrast in comparison.contrasts:
        cells = (_cell(contrast, comparison, name) for name in comparison.metric_names)
        rows.append((contrast.name, contrast.subject, *cells))
    return rows


def mean_rows(comparison: Comparison) -> Rows:
    """Return the table of means over the seeds, with their intervals.

    Args:
        comparison: Results of the comparison.

    Returns:
        One row per arm and one column per metric, after the number of trained parameters.
    """
    rows: Rows = [("arm", "parameters", *(_title(name) for name in comparison.metric_names))]
    for arm in comparison.plan.arms:
        cells = (
            format_mean(comparison.mean(arm.name, name), _format_spec(name))
            for name in comparison.metric_names
        )
        rows.append((arm.name, f"{comparison.plan.parameters[arm.name]:,}", *cells))
    return rows


def conclusion(comparison: Comparison) -> str:
    """Say in a sentence which differences between the encodings are larger than their intervals.

    Args:
        comparison: Results of the comparison.

    Returns:
        The sentence, for the top of a page.
    """
    contrasts = [c for c in comparison.contrasts if c.subject == "encoding"]
    found, total = [], 0
    for contrast in contrasts:
        for name in comparison.metric_names:
            total += 1
            difference, metric = contrast.difference(comparison.metrics, name), run_metric(name)
            if difference.excludes_zero:
                better = (difference.value < 0) == metric.lower_is_better
                found.append(
                    f"{contrast.arm} is {'better' if better else 'worse'} than {contrast.other} "
                    f"in {metric.title}"
                )
    if not found:
        return (
            f"No difference between the encodings is larger than its 95 % interval ({total} were "
            f"compared, over {len(comparison.seeds)} seeds)."
        )
    return (
        f"Of {total} differences between the encodings, {len(found)} exceed their 95 % intervals, "
        f"where chance alone gives about {0.05 * total:.1f}: {list_findings(found)}."
    )


def interpretation(comparison: Comparison) -> list[str]:
    """Explain how to read the table of differences, with the count of intervals without zero.

    Args:
        comparison: Results of the comparison.

    Returns:
        Paragraphs.
    """
    intervals = [
        c.difference(comparison.metrics, name)
        for c in comparison.contrasts
        for name in comparison.metric_names
    ]
    significant = sum(interval.excludes_zero for interval in intervals)
    return [
        f"Student's 95 % intervals of the paired differences over {len(comparison.seeds)} seeds. "
        f"They cover the variation from seed to seed: initial weights, order of the data, noise. "
        f"Losses and Fréchet distances are better when smaller, all other metrics when larger. "
        f"{significant} of {len(intervals)} intervals exclude zero (*); by chance alone about "
        f"{0.05 * len(intervals):.1f} would, and the metrics of a run are correlated. A difference "
        "that is exactly equal for all seeds has no spread, hence no interval, and gets no star.",
    ]


def control_notes(comparison: Comparison) -> list[str]:
    """Describe the controls, the selected learning rates, and the controls that are missing.

    Args:
        comparison: Results of the comparison.

    Returns:
        Paragraphs.
    """
    text, parameters = [], comparison.plan.parameters
    for baseline, *others in comparison.groups:
        text.append(f"{baseline} is the baseline of {', '.join(others)}.")
        for arm in others:
            wide = comparison.plan.wide_controls.get(arm)
            if wide is not None:
                text.append(
                    f"Equal parameters: {arm} has {parameters[arm] - parameters[baseline]:,} "
                    f"parameters more than {baseline}; {wide} adds "
                    f"{parameters[wide] - parameters[baseline]:,} in wider MLPs. Its weights have "
                    f"other shapes and another initialisation, so this pair shares only data and "
                    f"noise."
                )
        if baseline in comparison.best_rates:
            text.append(
                "Learning rate of queries and keys: without QK-norm, a basis is a "
                "reparametrisation of the query and key projections, so that its gain could come "
                f"from a better step size for them. {comparison.best_rates[baseline]} has the best "
                "mean EMA loss. It was selected on the compared seeds, which favours the baseline."
            )
    return [*text, *comparison.plan.notes]


def commands(comparison: Comparison) -> list[str]:
    """Return the `harope train` command of every run, with the fields that differ from the recipe.

    Args:
        comparison: Results of the comparison.

    Returns:
        One command per run, arm by arm.
    """
    recipe = flat(to_dict(get_recipe(comparison.config.recipe).config()))
    return [_command(job, recipe) for runs in comparison.jobs.values() for job in runs]


def _command(job: Job, recipe: dict[str, Any]) -> str:
    changed = {k: v for k, v in flat(to_dict(job.config)).items() if recipe.get(k, ...) != v}
    words = [f"--{name} {shlex.quote(_word(value))}" for name, value in changed.items()]
    return f"harope train {job.config.recipe} {' '.join(words)} --out runs/{job.name}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _title(name: str) -> str:
    metric = run_metric(name)
    return f"{metric.title}, %" if metric.percent else metric.title


def _format_spec(name: str) -> str:
    return ".1f" if run_metric(name).percent else ".4f"


def _cell(contrast: Contrast, comparison: Comparison, name: str) -> str:
    mean = contrast.difference(comparison.metrics, name)
    star = " *" if mean.excludes_zero else ""
    return f"{format_mean(mean, f'+{_format_spec(name)}')}{star}"
