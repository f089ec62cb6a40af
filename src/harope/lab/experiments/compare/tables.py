"""A comparison as rows of text, for terminals and pages."""

import json
import shlex
from typing import Any

from harope.lab.experiments.compare.contrasts import Comparison, Contrast, format_mean
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.run_metrics import run_metric
from harope.lab.recipes import get_recipe
from harope.lab.training.serialization import flat, to_dict

Rows = list[tuple[str, ...]]


def difference_rows(found: Comparison) -> Rows:
    """A row per contrast; a star where the interval excludes zero."""
    rows: Rows = [("difference", "of what", *(_title(name) for name in found.measures))]
    for contrast in found.contrasts:
        cells = (_cell(contrast, found, name) for name in found.measures)
        rows.append((contrast.name, contrast.why, *cells))
    return rows


def mean_rows(found: Comparison) -> Rows:
    """A row per arm."""
    rows: Rows = [("arm", "parameters", *(_title(name) for name in found.measures))]
    for arm in found.plan.arms:
        cells = (format_mean(found.mean(arm.name, name), _form(name)) for name in found.measures)
        rows.append((arm.name, f"{found.plan.parameters[arm.name]:,}", *cells))
    return rows


def reading(found: Comparison) -> list[str]:
    """What the table of differences says and does not say, counted."""
    intervals = [
        c.difference(found.values, name) for c in found.contrasts for name in found.measures
    ]
    clear = sum(interval.excludes_zero for interval in intervals)
    return [
        f"Student's 95 % intervals of the paired differences over {len(found.seeds)} seeds. "
        f"They cover what changes from seed to seed: weights, order of the data, noise. Losses "
        f"and Fréchet distances are better when smaller, all else when larger. {clear} of "
        f"{len(intervals)} intervals exclude zero (*); by chance alone about "
        f"{0.05 * len(intervals):.1f} would, and measures of one run hang together. "
        "Where all seeds give the very same difference there is no spread to judge it by, and no "
        "star.",
    ]


def control_notes(found: Comparison) -> list[str]:
    """What the controls are, which rate was chosen, and what could not be made."""
    text, parameters = [], found.plan.parameters
    for baseline, *others in found.groups:
        text.append(f"{baseline} is the baseline of {', '.join(others)}.")
        for arm in others:
            wide = found.plan.wide_controls.get(arm)
            if wide is not None:
                text.append(
                    f"Equal parameters: {arm} has {parameters[arm] - parameters[baseline]:,} more "
                    f"than {baseline}; {wide} spends {parameters[wide] - parameters[baseline]:,} "
                    f"in wider MLPs. Its weights have other shapes, so they start elsewhere: this "
                    f"pair shares data and noise alone."
                )
        if baseline in found.best_rates:
            text.append(
                "Rate of queries and keys: without QK-norm a basis is a reparametrisation of the "
                "weights that make queries and keys, and what it gains could be a better step for "
                f"them. The best mean loss of the averaged weights has "
                f"{found.best_rates[baseline]}. It was chosen on the seeds that are compared, "
                f"which favours the baseline."
            )
    return [*text, *found.plan.notes]


def commands(found: Comparison) -> list[str]:
    """`harope train` with what differs from the recipe, per run."""
    recipe = flat(to_dict(get_recipe(found.config.recipe).config()))
    return [_command(job, recipe) for runs in found.jobs.values() for job in runs]


def _command(job: Job, recipe: dict[str, Any]) -> str:
    changed = {k: v for k, v in flat(to_dict(job.config)).items() if recipe.get(k, ...) != v}
    words = [f"--{name} {shlex.quote(_word(value))}" for name, value in changed.items()]
    return f"harope train {job.config.recipe} {' '.join(words)} --out runs/{job.name}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _title(name: str) -> str:
    measure = run_metric(name)
    return f"{measure.title}, %" if measure.percent else measure.title


def _form(name: str) -> str:
    return ".1f" if run_metric(name).percent else ".4f"


def _cell(contrast: Contrast, found: Comparison, name: str) -> str:
    mean = contrast.difference(found.values, name)
    star = " *" if mean.excludes_zero else ""
    return f"{format_mean(mean, f'+{_form(name)}')}{star}"
