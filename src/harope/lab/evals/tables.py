"""Tables, notes and JSON values of GenEval and DPG-Bench scores, with the models used."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harope.lab.evals.dpg.scores import DPGScores
from harope.lab.evals.geneval.scores import GenEvalSummary, TaskScore
from harope.lab.evals.local_models import ModelInfo
from harope.lab.metrics.intervals import Proportion
from harope.lab.reporting.tables import text_table

GENEVAL_PROMPTS = 553
Interval = tuple[float, float] | None


def geneval_table(summary: GenEvalSummary) -> str:
    """Format the scores of all tasks, their mean, and the rates over images and prompts.

    Args:
        summary: Scores to format.

    Returns:
        The table as lines of text.
    """
    rows = [["", "score", "over prompts", "over images", "correct"]]
    rows += [_task_row(name, score) for name, score in summary.tasks.items()]
    overall = _interval(summary.overall_interval)
    rows += [
        ["mean of tasks", _percent(summary.overall), overall, "-", "-"],
        ["images", *_rate_cells(summary.images, "-", _interval(summary.images.interval()))],
        [
            "prompts, any image",
            *_rate_cells(summary.any_image, _interval(summary.any_image.interval()), "-"),
        ],
    ]
    return text_table(rows)


def geneval_notes(summary: GenEvalSummary) -> list[str]:
    """Explain the intervals of `geneval_table`, and what is missing for a GenEval score.

    Args:
        summary: Scores of the table.

    Returns:
        One note per element.
    """
    notes = [
        "over prompts: 95 % intervals, Student's over the prompts' means, Welch's for the mean of "
        "tasks, Wilson's for any image; over images: 95 % intervals, Wilson's, as if the images of "
        "a prompt were independent, which they are not",
    ]
    if summary.missing_tasks or summary.prompts != GENEVAL_PROMPTS:
        missing = ", ".join(summary.missing_tasks)
        notes.append(
            f"not the complete GenEval: {summary.prompts} prompts instead of {GENEVAL_PROMPTS}"
            + (f", none of {missing}" if missing else "")
        )
    return notes


def geneval_json(summary: GenEvalSummary) -> dict[str, Any]:
    """Convert the numbers of `geneval_table` with their intervals to JSON values.

    Args:
        summary: Scores to convert.

    Returns:
        The values, rates in [0, 1].
    """
    return {
        "tasks": {
            name: asdict(score.images)
            | {
                "over_prompts": score.prompts and asdict(score.prompts),
                "over_images": score.images.interval(),
            }
            for name, score in summary.tasks.items()
        },
        "overall": summary.overall,
        "overall_interval": summary.overall_interval,
        "images": asdict(summary.images),
        "prompts_any_image": asdict(summary.any_image),
    }


def dpg_table(scripted: DPGScores, corrected: DPGScores) -> str:
    """Format the scores and those of broad and detailed categories, times 100.

    Args:
        scripted: Scores as the official script computes them.
        corrected: Scores without its known faults.

    Returns:
        The table as lines of text.
    """
    rows = [["", "as scripted", "corrected", "95 % over prompts"]]
    rows.append(
        [
            "DPG-Bench score",
            _hundred(scripted.score),
            _hundred(corrected.score),
            _interval(corrected.interval, digits=2),
        ]
    )
    for before, after in (
        (scripted.broad, corrected.broad),
        (scripted.detailed, corrected.detailed),
    ):
        rows += [
            [name, _hundred(before.get(name)), _hundred(value), "-"]
            for name, value in after.items()
        ]
    return text_table(rows)


def dpg_notes(scripted: DPGScores, corrected: DPGScores) -> list[str]:
    """Explain the two columns of `dpg_table`, and name the prompts that have no score.

    Args:
        scripted: Scores as the official script computes them.
        corrected: Scores without its known faults.

    Returns:
        One note per element.
    """
    notes = [
        "as scripted: counted as by compute_dpg_bench.py, with categories from the last tile of "
        "each image only (ELLA#60) and without the table's first row (ELLA#61); corrected: all "
        "tiles and rows; in both, categories count answers regardless of dependencies",
    ]
    if scripted.left_out:
        notes.append(f"as scripted silently leaves out: {', '.join(scripted.left_out)}")
    if corrected.left_out:
        notes.append(
            f"corrected leaves out, as a question or answer that others depend on is missing: "
            f"{', '.join(corrected.left_out)}"
        )
    return notes


def dpg_json(scripted: DPGScores, corrected: DPGScores) -> dict[str, Any]:
    """Convert both scores with their intervals to JSON values.

    Args:
        scripted: Scores as the official script computes them.
        corrected: Scores without its known faults.

    Returns:
        The values, scores in [0, 1].
    """
    return {
        name: {"score": scores.score, "interval": scores.interval} | asdict(scores)
        for name, scores in (("as_scripted", scripted), ("corrected", corrected))
    }


def models_table(models: Sequence[ModelInfo]) -> str:
    """Format which models computed the scores, and which official models they replace.

    Args:
        models: The models that took part.

    Returns:
        The table as lines of text.
    """
    rows = [["model", "class", "weights", "replaces"]]
    rows += [[model.folder, model.kind, model.weights, model.stands_for] for model in models]
    return text_table(rows)


def not_official(benchmark: str) -> str:
    """State that the scores are not comparable with official ones.

    Args:
        benchmark: Name of the benchmark.

    Returns:
        The note.
    """
    return f"not official {benchmark} numbers: the models used are not those of the official code"


def _task_row(name: str, score: TaskScore) -> list[str]:
    mean = score.prompts
    over_prompts = _interval(None if mean is None else (mean.low, mean.high))
    return [name, *_rate_cells(score.images, over_prompts, _interval(score.images.interval()))]


def _rate_cells(correct: Proportion, over_prompts: str, over_images: str) -> list[str]:
    counts = f"{correct.successes} of {correct.total}"
    return [_percent(correct.rate), over_prompts, over_images, counts]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _hundred(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _interval(interval: Interval, digits: int = 1) -> str:
    """Format an interval times 100, clipped to 0 .. 100."""
    if interval is None:
        return "-"
    low, high = max(interval[0], 0.0), min(interval[1], 1.0)
    return f"[{100 * low:.{digits}f}, {100 * high:.{digits}f}]"
