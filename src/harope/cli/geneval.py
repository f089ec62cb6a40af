"""The command `harope evaluate geneval`: GenEval."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harope.cli import benchmarks
from harope.cli.benchmarks import JudgedFolder

if TYPE_CHECKING:
    from harope.lab.evals.geneval.scores import Record

SUMMARY = "GenEval: objects, counts, colours and positions"
EXAMPLE = "harope evaluate geneval samples/geneval --detector mask2former --clip clip"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope evaluate geneval`.

    Models are local folders in the layout of the Hugging Face Hub.

    Args:
        parser: Parser of the tool.
    """
    parser.add_argument(
        "folder",
        type=Path,
        help="folder of `harope sample --geneval`, or results.jsonl of the official scorer",
    )
    parser.add_argument(
        "--detector",
        type=Path,
        metavar="DIR",
        help="folder of a Mask2Former for instance segmentation of COCO",
    )
    parser.add_argument(
        "--clip", type=Path, metavar="DIR", help="folder of a CLIP model that classifies colours"
    )
    benchmarks.add_arguments(parser, batch_size=8, unit="images")


def run(options: argparse.Namespace) -> None:
    """Print the scores of a folder of images, or of the official scorer's results.jsonl.

    Args:
        options: Options of the command.
    """
    from harope.lab.evals.geneval.scores import read_records, summarise, write_records
    from harope.lab.evals.tables import geneval_json, geneval_notes, geneval_table

    folder: Path = options.folder
    stored = folder.is_file()
    judged = JudgedFolder(read_records(folder)) if stored else _judge(options, folder)
    if judged is None:
        return
    if options.results and not stored:
        write_records(judged.results, options.results / "results.jsonl")
    summary = summarise(judged.results)
    scores = benchmarks.Scores(
        benchmark="GenEval",
        content=f"{len(judged.results)} images of {summary.prompts} prompts",
        table=geneval_table(summary),
        notes=geneval_notes(summary),
        values=geneval_json(summary),
    )
    benchmarks.report(options, judged, scores)


def _judge(options: argparse.Namespace, folder: Path) -> "JudgedFolder[list[Record]] | None":
    """Return the verdicts on all images in the first process, None in the others."""
    from harope.lab.evals.geneval.colors import CLIPColors
    from harope.lab.evals.geneval.detectors import Mask2FormerDetector
    from harope.lab.evals.geneval.folders import read_geneval_folder
    from harope.lab.evals.geneval.rules import GenEvalRules
    from harope.lab.evals.geneval.scorer import geneval_provenance, geneval_requests, geneval_scorer
    from harope.lab.metrics.tolerant_reader import TolerantReader

    benchmarks.require_options(options, "detector", "clip")
    batch_size = benchmarks.checked_batch_size(options)
    state = benchmarks.process_state(options)
    images = read_geneval_folder(folder)
    reader = TolerantReader(folder, len(images), options.max_unreadable)
    for image in images:
        reader.size(image.name)
    detector = Mask2FormerDetector(options.detector, state.device)
    colors, rules = CLIPColors(options.clip, state.device), GenEvalRules()
    results = benchmarks.judge_images(
        options,
        geneval_requests(images),
        geneval_scorer(detector, colors, rules),
        geneval_provenance(detector, colors, rules),
        reader,
        state,
        batch_size=batch_size,
    )
    if results is None:
        return None
    return JudgedFolder(results, [detector.info, colors.info], reader.names)
