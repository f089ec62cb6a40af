"""Tables of GenEval's and DPG-Bench's scores, with the models that made them."""

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
    """One row per task, their mean, and the official summary's two shares."""
    rows = [["", "score", "over prompts", "over images", "correct"]]
    rows += [_task_row(name, score) for name, score in summary.tasks.items()]
    overall = _interval(summary.overall_interval)
    rows += [
        ["mean of tasks", _percent(summary.overall), overall, "-", "-"],
        ["images", *_shares(summary.images, "-", _interval(summary.images.interval()))],
        [
            "prompts, any image",
            *_shares(summary.any_image, _interval(summary.any_image.interval()), "-"),
        ],
    ]
    return text_table(rows)


def geneval_notes(summary: GenEvalSummary) -> list[str]:
    """What a reader must know of the table."""
    notes = [
        "over prompts: 95 %, Student's of the prompts' means, Welch's for the mean of tasks, "
        "Wilson's for any image; over images: 95 %, Wilson's, as if a prompt's images were "
        "independent, which they are not",
    ]
    if summary.lacks or summary.prompts != GENEVAL_PROMPTS:
        lacks = f", none of {', '.join(summary.lacks)}" if summary.lacks else ""
        notes.append(
            f"not the whole of GenEval: {summary.prompts} prompts instead of {GENEVAL_PROMPTS}"
            f"{lacks}"
        )
    return notes


def geneval_json(summary: GenEvalSummary) -> dict[str, Any]:
    """The table's numbers, and their intervals."""
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
    """The score, broad categories and detailed ones, x 100."""
    rows = [["", "as scripted", "corrected", "95 % over prompts"]]
    rows.append(
        [
            "DPG-Bench score",
            _hundred(scripted.score),
            _hundred(corrected.score),
            _interval(corrected.interval, digits=2),
        ]
    )
    for one, other in (
        (scripted.broad, corrected.broad),
        (scripted.detailed, corrected.detailed),
    ):
        rows += [
            [name, _hundred(one.get(name)), _hundred(value), "-"] for name, value in other.items()
        ]
    return text_table(rows)


def dpg_notes(scripted: DPGScores, corrected: DPGScores) -> list[str]:
    """What a reader must know of the table."""
    notes = [
        "as scripted: counted as compute_dpg_bench.py does, categories of each picture's last "
        "tile alone (ELLA#60), without the table's first row (ELLA#61); corrected: all tiles and "
        "rows; categories count answers without regard to dependencies, in both",
    ]
    if scripted.left_out:
        notes.append(f"as scripted leaves out in silence: {', '.join(scripted.left_out)}")
    if corrected.left_out:
        notes.append(
            f"corrected leaves out, as a question or answer that others depend on is missing: "
            f"{', '.join(corrected.left_out)}"
        )
    return notes


def dpg_json(scripted: DPGScores, corrected: DPGScores) -> dict[str, Any]:
    """Both, in [0, 1], with the interval of the corrected score."""
    return {
        name: {"score": scores.score, "interval": scores.interval} | asdict(scores)
        for name, scores in (("as_scripted", scripted), ("corrected", corrected))
    }


def models_table(models: Sequence[ModelInfo]) -> str:
    """Which models judged, in place of which."""
    rows = [["model", "class", "weights", "stands for"]]
    rows += [[one.folder, one.kind, one.weights, one.stands_for] for one in models]
    return text_table(rows)


def not_official(benchmark: str) -> str:
    """Said wherever a model is not the official stack's."""
    return f"not official {benchmark} numbers: the models that judged are not the official stack's"


def _task_row(name: str, score: TaskScore) -> list[str]:
    mean = score.prompts
    over_prompts = _interval(None if mean is None else (mean.low, mean.high))
    return [name, *_shares(score.images, over_prompts, _interval(score.images.interval()))]


def _shares(share: Proportion, over_prompts: str, over_images: str) -> list[str]:
    correct = f"{share.successes} of {share.total}"
    return [_percent(share.rate), over_prompts, over_images, correct]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _hundred(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _interval(interval: Interval, digits: int = 1) -> str:
    """x 100, within what shares can be."""
    if interval is None:
        return "-"
    low, high = max(interval[0], 0.0), min(interval[1], 1.0)
    return f"[{100 * low:.{digits}f}, {100 * high:.{digits}f}]"
