"""Shared parts of `harope evaluate geneval` and `harope evaluate dpg`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import PartialState

    from harope.lab.evals.local_models import ModelInfo
    from harope.lab.evals.result_store import Request, Scorer, Values
    from harope.lab.metrics.tolerant_reader import TolerantReader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope evaluate geneval` and `harope evaluate dpg`."""
    group = parser.add_argument_group(
        "geneval and dpg",
        "Score a folder of `harope sample --geneval` or `--dpg`. Models are local folders in\n"
        "the layout of the Hugging Face hub.",
    )
    group.add_argument(
        "--detector",
        type=Path,
        metavar="DIR",
        help="geneval: Mask2Former for instance segmentation of COCO",
    )
    group.add_argument(
        "--clip", type=Path, metavar="DIR", help="geneval: CLIP model that classifies colours"
    )
    group.add_argument(
        "--vqa", type=Path, metavar="DIR", help="dpg: BLIP VQA, LLaVA or Qwen-VL model"
    )
    group.add_argument(
        "--questions", type=Path, metavar="CSV", help="dpg: dpg_bench.csv of the benchmark"
    )
    group.add_argument(
        "--samples-per-prompt", type=int, default=4, help="dpg: number of tiles in an image"
    )
    group.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder for the models' answers, from which an interrupted command resumes; required "
        "with several processes",
    )


def judge_all(
    options: argparse.Namespace,
    tasks: "Sequence[Request]",
    judge: "Scorer",
    made_by: dict[str, Any],
    damage: "TolerantReader",
    state: "PartialState",
    *,
    batch_size: int,
) -> "list[Values] | None":
    """Score all images of a folder, sharing the work with the other processes.

    Args:
        options: Options of the command.
        tasks: Requests to score.
        judge: Function that scores images.
        made_by: Identity of the models and settings, stored with the results.
        damage: Reader of the images, which tolerates a fraction of unreadable files.
        state: This process among the others.
        batch_size: Number of images scored at once.

    Returns:
        All results in the first process, None in the others.

    Raises:
        ValueError: No image can be read.
    """
    from harope.lab.evals.result_store import ResultStore, collect_results, score_images

    ledger = ResultStore(options.results, made_by, state.process_index)
    score_images(
        options.folder,
        tasks,
        judge,
        ledger,
        damage,
        batch_size=batch_size,
        rank=state.process_index,
        world_size=state.num_processes,
        quiet=not (state.is_main_process and sys.stderr.isatty()),
    )
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    results = collect_results(tasks, ledger, options.folder, damage)
    if not results:
        raise ValueError(f"{options.folder} has no image that can be read")
    return results


def required_folder(options: argparse.Namespace) -> Path:
    """Return the folder to score.

    Raises:
        ValueError: No folder is given.
    """
    if options.folder is None:
        raise ValueError(f"{options.metric} needs a folder of images to score; pass one")
    return options.folder


def require_options(options: argparse.Namespace, *names: str) -> None:
    """Check that options are given.

    Args:
        options: Options of the command.
        names: Names of the required options.

    Raises:
        ValueError: Options are missing.
    """
    missing = [f"--{name}" for name in names if getattr(options, name) is None]
    if missing:
        raise ValueError(f"{options.metric} requires {' and '.join(missing)}")


def checked_batch_size(options: argparse.Namespace, default: int) -> int:
    """Return the batch size, or its default if it is not given.

    Raises:
        ValueError: The batch size is less than 1.
    """
    size = default if options.batch_size is None else options.batch_size
    if size < 1:
        raise ValueError(f"batch_size {size} must be at least 1")
    return size


def process_state(options: argparse.Namespace) -> "PartialState":
    """Return the state of this process among the others.

    Raises:
        ValueError: There are several processes, but no folder for their results.
    """
    from harope._utils.distributed import this_process

    state = this_process()
    if state.num_processes > 1 and options.results is None:
        raise ValueError(
            f"{state.num_processes} processes need a folder to share results; pass --results FOLDER"
        )
    return state


def report(
    options: argparse.Namespace,
    notes: list[str],
    values: dict[str, Any],
    models: "list[ModelInfo]",
    damaged: tuple[str, ...],
) -> None:
    """Print notes and the number of unreadable files, and write everything to `--json`.

    Args:
        options: Options of the command.
        notes: Remarks on the scores.
        values: Scores as plain values.
        models: Models that judged the images; empty for results of the official scorer.
        damaged: Names of the files that could not be read.
    """
    from dataclasses import asdict

    from harope.lab.metrics.tolerant_reader import skipped_files_note

    for note in notes:
        print(note)
    if damaged:
        print(
            f"harope: warning: {skipped_files_note(str(options.folder), damaged)}", file=sys.stderr
        )
    if options.json:
        about = {
            "models": [asdict(model) for model in models],
            "official": False if models else None,
            "damaged": damaged,
            "notes": notes,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(values | about, indent=2, allow_nan=False) + "\n")
