"""Tables and paragraphs of a comparison, for the terminal and for pages."""

import json
import shlex
from typing import Any

from harope.lab.experiments.compare.contrasts import Comparison, Contrast, format_mean
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.run_metrics import run_metric
from harope.lab.recipes import get_recipe
from harope.lab.training.serialization import flat, to_dict

Rows = list[tuple[str, ...]]
"""A table: the header, then one tuple of cells per row."""


def difference_rows(found: Comparison) -> Rows:
    """Return the table of paired differences, with a star where an interval excludes zero.

    Args:
        found: Results of the comparison.

    Returns:
        One row per contrast and one column per metric.
    """
    rows: Rows = [("difference", "subject", *(_title(name) for name in found.metric_names))]
    for contrast in found.contrasts:
        cells = (_cell(contrast, found, name) for name in found.metric_names)
        rows.append((contrast.name, contrast.subject, *cells))
    return rows


def mean_rows(found: Comparison) -> Rows:
    """Return the table of means over the seeds, with their intervals.

    Args:
        found: Results of the comparison.

    Returns:
        One row per arm and one column per metric, after the number of trained parameters.
    """
    rows: Rows = [("arm", "parameters", *(_title(name) for name in found.metric_names))]
    for arm in found.plan.arms:
        cells = (
            format_mean(found.mean(arm.name, name), _format_spec(name))
            for name in found.metric_names
        )
        rows.append((arm.name, f"{found.plan.parameters[arm.name]:,}", *cells))
    return rows


def interpretation(found: Comparison) -> list[str]:
    """Explain how to read the table of differences, with the count of intervals without zero.

    Args:
        found: Results of the comparison.

    Returns:
        Paragraphs.
    """
    intervals = [
        c.difference(found.metrics, name) for c in found.contrasts for name in found.metric_names
    ]
    significant = sum(interval.excludes_zero for interval in intervals)
    return [
        f"Student's 95 % intervals of the paired differences over {len(found.seeds)} seeds. They "
        f"cover the variation from seed to seed: initial weights, order of the data, noise. Losses "
        f"and Fréchet distances are better when smaller, all other metrics when larger. "
        f"{significant} of {len(intervals)} intervals exclude zero (*); by chance alone about "
        f"{0.05 * len(intervals):.1f} would, and the metrics of a run are correlated. A difference "
        "that is exactly equal for all seeds has no spread, hence no interval, and gets no star.",
    ]


def control_notes(found: Comparison) -> list[str]:
    """Describe the controls, the selected learning rates, and the controls that are missing.

    Args:
        found: Results of the comparison.

    Returns:
        Paragraphs.
    """
    text, parameters = [], found.plan.parameters
    for baseline, *others in found.groups:
        text.append(f"{baseline} is the baseline of {', '.join(others)}.")
        for arm in others:
            wide = found.plan.wide_controls.get(arm)
            if wide is not None:
                text.append(
                    f"Equal parameters: {arm} has {parameters[arm] - parameters[baseline]:,} "
                    f"parameters more than {baseline}; {wide} adds "
                    f"{parameters[wide] - parameters[baseline]:,} in wider MLPs. Its weights have "
                    f"other shapes and another initialisation, so this pair shares only data and "
                    f"noise."
                )
        if baseline in found.best_rates:
            text.append(
                "Learning rate of queries and keys: without QK-norm, a basis is a "
                "reparametrisation of the query and key projections, so that its gain could come "
                f"from a better step size for them. {found.best_rates[baseline]} has the best mean "
                "EMA loss. It was selected on the compared seeds, which favours the baseline."
            )
    return [*text, *found.plan.notes]


def commands(found: Comparison) -> list[str]:
    """Return the `harope train` command of every run, with the fields that differ from the recipe.

    Args:
        found: Results of the comparison.

    Returns:
        One command per run, arm by arm.
    """
    recipe = flat(to_dict(get_recipe(found.config.recipe).config()))
    return [_command(job, recipe) for runs in found.jobs.values() for job in runs]


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


def _cell(contrast: Contrast, found: Comparison, name: str) -> str:
    mean = contrast.difference(found.metrics, name)
    star = " *" if mean.excludes_zero else ""
    return f"{format_mean(mean, f'+{_format_spec(name)}')}{star}"
