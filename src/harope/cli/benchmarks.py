"""The part of `harope evaluate` that scores the folders of public text-to-image benchmarks."""

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
    """Models, questions, and where verdicts are kept."""
    group = parser.add_argument_group(
        "geneval and dpg, of folders of `harope sample --geneval` and `--dpg`; models are local "
        "folders in the hub's layout"
    )
    group.add_argument(
        "--detector", type=Path, metavar="DIR", help="geneval: a Mask2Former of COCO's instances"
    )
    group.add_argument("--clip", type=Path, metavar="DIR", help="geneval: a CLIP, for colours")
    group.add_argument("--vqa", type=Path, metavar="DIR", help="dpg: BLIP VQA, LLaVA or Qwen-VL")
    group.add_argument("--questions", type=Path, metavar="CSV", help="dpg: its dpg_bench.csv")
    group.add_argument(
        "--samples-per-prompt", type=int, default=4, help="dpg: tiles in a picture (4)"
    )
    group.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder to keep answers in, to go on from; several processes need one",
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
    """All results, for the first process."""
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
        raise ValueError(f"{options.folder} has no picture that can be read")
    return results


def folder_of(options: argparse.Namespace) -> Path:
    """What is to be scored. Raises ValueError where nothing was named."""
    if options.folder is None:
        raise ValueError(f"pass the folder of pictures that {options.metric} shall score")
    return options.folder


def needs(options: argparse.Namespace, *names: str) -> None:
    """Raises ValueError naming the options that are not given."""
    missing = [f"--{name}" for name in names if getattr(options, name) is None]
    if missing:
        raise ValueError(f"{options.metric} needs {' and '.join(missing)}")


def batch_size_of(options: argparse.Namespace, default: int) -> int:
    """What was asked for, or what is usual. Raises ValueError for less than one."""
    size = default if options.batch_size is None else options.batch_size
    if size < 1:
        raise ValueError(f"batch_size {size} must be at least 1")
    return size


def state_of(options: argparse.Namespace) -> "PartialState":
    """This process among others. Raises ValueError where several have no folder to share."""
    from harope._utils.distributed import this_process

    state = this_process()
    if state.num_processes > 1 and options.results is None:
        raise ValueError(f"{state.num_processes} processes share their work in --results FOLDER")
    return state


def finish(
    options: argparse.Namespace,
    notes: list[str],
    values: dict[str, Any],
    models: "list[ModelInfo]",
    damaged: tuple[str, ...],
) -> None:
    """What is to be known, and everything as JSON."""
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
