"""The command `harope evaluate dpg`: DPG-Bench."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harope.cli.benchmarks import (
    checked_batch_size,
    judge_all,
    process_state,
    report,
    require_options,
    required_folder,
)

if TYPE_CHECKING:
    from harope.lab.evals.dpg.questions import Question
    from harope.lab.evals.dpg.scores import Answers
    from harope.lab.evals.local_models import ModelInfo

BATCH = 16
"""Default number of questions at once."""


def run(options: argparse.Namespace) -> None:
    """Print the scores of a folder of images, or of the answers of the official script."""
    from harope.lab.evals.dpg.questions import read_questions
    from harope.lab.evals.dpg.scores import corrected_scores, read_answers, scripted_scores
    from harope.lab.evals.tables import (
        dpg_json,
        dpg_notes,
        dpg_table,
        models_table,
        not_official,
    )

    folder = required_folder(options)
    require_options(options, "questions")
    rows = read_questions(options.questions)
    models: list[ModelInfo] = []
    damaged: tuple[str, ...] = ()
    if folder.is_file():
        answers = read_answers(folder, rows)
    else:
        done = _answers(options, folder, rows)
        if done is None:
            return
        answers, models, damaged = done
    scripted, corrected = scripted_scores(rows, answers), corrected_scores(rows, answers)
    tiles = max(len(them) for them in answers.values())
    print(f"{folder}: {len(answers)} images of {tiles} tiles")
    print(dpg_table(scripted, corrected))
    if models:
        print(f"\n{models_table(models)}")
    origin = not_official("DPG-Bench") if models else f"the answers are those stored in {folder}"
    notes = [origin, *dpg_notes(scripted, corrected)]
    report(options, notes, dpg_json(scripted, corrected), models, damaged)


def _answers(
    options: argparse.Namespace, folder: Path, rows: "Sequence[Question]"
) -> "tuple[dict[str, list[Answers]], list[ModelInfo], tuple[str, ...]] | None":
    """Return answers, models and unreadable files in the first process, None in the others."""
    from harope.lab.evals.dpg.folders import check_grid_sizes, read_dpg_folder
    from harope.lab.evals.dpg.questions import by_item
    from harope.lab.evals.dpg.scorer import (
        answers_by_item,
        dpg_provenance,
        dpg_requests,
        dpg_scorer,
    )
    from harope.lab.evals.dpg.vqa import load_vqa
    from harope.lab.metrics.tolerant_reader import TolerantReader

    require_options(options, "vqa")
    batch_size, state = checked_batch_size(options, BATCH), process_state(options)
    tiles = options.samples_per_prompt
    names = read_dpg_folder(folder, by_item(rows))
    damage = TolerantReader(folder, len(names), options.max_unreadable)
    check_grid_sizes(folder, list(names.values()), tiles, damage)
    vqa = load_vqa(options.vqa, state.device)
    results = judge_all(
        options,
        dpg_requests(names, by_item(rows)),
        dpg_scorer(vqa, tiles, batch_size),
        dpg_provenance(vqa, tiles),
        damage,
        state,
        batch_size=1,
    )
    return None if results is None else (answers_by_item(results), [vqa.info], damage.names)
