"""The command `harope evaluate dpg`: DPG-Bench."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harope.cli import benchmarks
from harope.cli.benchmarks import JudgedFolder

if TYPE_CHECKING:
    from harope.lab.evals.dpg.questions import Question
    from harope.lab.evals.dpg.scores import Answers

SUMMARY = "DPG-Bench: questions about long prompts"
EXAMPLE = "harope evaluate dpg samples/dpg --questions dpg_bench.csv --vqa blip-vqa-base"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope evaluate dpg`.

    Models are local folders in the layout of the Hugging Face Hub.

    Args:
        parser: Parser of the tool.
    """
    parser.add_argument(
        "folder",
        type=Path,
        help="folder of `harope sample --dpg`, or *_detail.txt of the official scorer",
    )
    parser.add_argument(
        "--questions",
        type=Path,
        metavar="CSV",
        required=True,
        help="dpg_bench.csv of the benchmark",
    )
    parser.add_argument(
        "--vqa", type=Path, metavar="DIR", help="folder of a BLIP VQA, LLaVA or Qwen-VL model"
    )
    parser.add_argument(
        "--samples-per-prompt", type=int, default=4, help="number of tiles in an image"
    )
    benchmarks.add_arguments(parser, batch_size=16, unit="questions")


def run(options: argparse.Namespace) -> None:
    """Print the scores of a folder of images, or of the answers of the official script.

    Args:
        options: Options of the command.
    """
    from harope.lab.evals.dpg.questions import read_questions
    from harope.lab.evals.dpg.scores import corrected_scores, read_answers, scripted_scores
    from harope.lab.evals.tables import dpg_json, dpg_notes, dpg_table

    folder: Path = options.folder
    rows = read_questions(options.questions)
    if folder.is_file():
        judged: JudgedFolder[dict[str, list[Answers]]] | None
        judged = JudgedFolder(read_answers(folder, rows))
    else:
        judged = _judge(options, folder, rows)
    if judged is None:
        return
    answers = judged.results
    scripted, corrected = scripted_scores(rows, answers), corrected_scores(rows, answers)
    tiles = max(len(item) for item in answers.values())
    scores = benchmarks.Scores(
        benchmark="DPG-Bench",
        content=f"{len(answers)} images of {tiles} tiles",
        table=dpg_table(scripted, corrected),
        notes=dpg_notes(scripted, corrected),
        values=dpg_json(scripted, corrected),
    )
    benchmarks.report(options, judged, scores)


def _judge(
    options: argparse.Namespace, folder: Path, rows: "Sequence[Question]"
) -> "JudgedFolder[dict[str, list[Answers]]] | None":
    """Return the answers about all images in the first process, None in the others."""
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

    benchmarks.require_options(options, "vqa")
    batch_size = benchmarks.checked_batch_size(options)
    state = benchmarks.process_state(options)
    tiles = options.samples_per_prompt
    names = read_dpg_folder(folder, by_item(rows))
    reader = TolerantReader(folder, len(names), options.max_unreadable)
    check_grid_sizes(folder, list(names.values()), tiles, reader)
    vqa = load_vqa(options.vqa, state.device)
    results = benchmarks.judge_images(
        options,
        dpg_requests(names, by_item(rows)),
        dpg_scorer(vqa, tiles, batch_size),
        dpg_provenance(vqa, tiles),
        reader,
        state,
        batch_size=1,
    )
    return (
        None
        if results is None
        else JudgedFolder(answers_by_item(results), [vqa.info], reader.names)
    )
