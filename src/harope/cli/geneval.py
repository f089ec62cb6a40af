"""The command `harope evaluate geneval`: GenEval."""

import argparse
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
    from harope.lab.evals.local_models import ModelInfo
    from harope.lab.evals.result_store import Values

BATCH = 8
"""Default number of images at once."""


def run(options: argparse.Namespace) -> None:
    """Print the scores of a folder of images, or of the official scorer's results.jsonl."""
    from harope.lab.evals.geneval.scores import read_records, summarise, write_records
    from harope.lab.evals.tables import (
        geneval_json,
        geneval_notes,
        geneval_table,
        models_table,
        not_official,
    )

    folder = required_folder(options)
    models: list[ModelInfo] = []
    damaged: tuple[str, ...] = ()
    if folder.is_file():
        records = read_records(folder)
    else:
        done = _verdicts(options, folder)
        if done is None:
            return
        records, models, damaged = done
        if options.results:
            write_records(records, options.results / "results.jsonl")
    summary = summarise(records)
    print(f"{folder}: {len(records)} images of {summary.prompts} prompts")
    print(geneval_table(summary))
    if models:
        print(f"\n{models_table(models)}")
    origin = not_official("GenEval") if models else f"the verdicts are those stored in {folder}"
    report(options, [origin, *geneval_notes(summary)], geneval_json(summary), models, damaged)


def _verdicts(
    options: argparse.Namespace, folder: Path
) -> "tuple[list[Values], list[ModelInfo], tuple[str, ...]] | None":
    """Return records, models and unreadable files in the first process, None in the others."""
    from harope.lab.evals.geneval.colors import CLIPColors
    from harope.lab.evals.geneval.detectors import Mask2FormerDetector
    from harope.lab.evals.geneval.folders import read_geneval_folder
    from harope.lab.evals.geneval.rules import GenEvalRules
    from harope.lab.evals.geneval.scorer import geneval_provenance, geneval_requests, geneval_scorer
    from harope.lab.metrics.tolerant_reader import TolerantReader

    require_options(options, "detector", "clip")
    batch_size, state = checked_batch_size(options, BATCH), process_state(options)
    images = read_geneval_folder(folder)
    damage = TolerantReader(folder, len(images), options.max_unreadable)
    for image in images:
        damage.size(image.name)
    detector = Mask2FormerDetector(options.detector, state.device)
    colors, rules = CLIPColors(options.clip, state.device), GenEvalRules()
    results = judge_all(
        options,
        geneval_requests(images),
        geneval_scorer(detector, colors, rules),
        geneval_provenance(detector, colors, rules),
        damage,
        state,
        batch_size=batch_size,
    )
    return None if results is None else (results, [detector.info, colors.info], damage.names)
