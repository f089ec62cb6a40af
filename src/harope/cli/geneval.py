"""The part of `harope evaluate` that scores GenEval."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harope.cli.benchmarks import batch_size_of, finish, folder_of, judge_all, needs, state_of

if TYPE_CHECKING:
    from harope.lab.evals.local_models import ModelInfo
    from harope.lab.evals.result_store import Values

BATCH = 8


def run(options: argparse.Namespace) -> None:
    """Print GenEval's summary of a folder, or of an official results.jsonl."""
    from harope.lab.evals.geneval.scores import read_records, summarise, write_records
    from harope.lab.evals.tables import (
        geneval_json,
        geneval_notes,
        geneval_table,
        models_table,
        not_official,
    )

    folder = folder_of(options)
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
    whose = not_official("GenEval") if models else f"verdicts and their models are {folder}'s own"
    finish(options, [whose, *geneval_notes(summary)], geneval_json(summary), models, damaged)


def _verdicts(
    options: argparse.Namespace, folder: Path
) -> "tuple[list[Values], list[ModelInfo], tuple[str, ...]] | None":
    """Records, models and damaged files, for the first process."""
    from harope.lab.evals.geneval.colors import CLIPColors
    from harope.lab.evals.geneval.detectors import Mask2FormerDetector
    from harope.lab.evals.geneval.folders import read_geneval_folder
    from harope.lab.evals.geneval.rules import GenEvalRules
    from harope.lab.evals.geneval.scorer import geneval_provenance, geneval_requests, geneval_scorer
    from harope.lab.metrics.tolerant_reader import TolerantReader

    needs(options, "detector", "clip")
    batch_size, state = batch_size_of(options, BATCH), state_of(options)
    pictures = read_geneval_folder(folder)
    damage = TolerantReader(folder, len(pictures), options.max_unreadable)
    for picture in pictures:
        damage.size(picture.name)
    detector = Mask2FormerDetector(options.detector, state.device)
    colors, rules = CLIPColors(options.clip, state.device), GenEvalRules()
    results = judge_all(
        options,
        geneval_requests(pictures),
        geneval_scorer(detector, colors, rules),
        geneval_provenance(detector, colors, rules),
        damage,
        state,
        batch_size=batch_size,
    )
    return None if results is None else (results, [detector.info, colors.info], damage.names)
