"""The part of `harope evaluate` that scores the folders of public text-to-image benchmarks."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import PartialState

    from harope.evaluation.ledger import Judge, Task, Values
    from harope.evaluation.models_used import ModelUsed
    from harope.evaluation.pictures import Damage

GENEVAL_BATCH = 8
DPG_BATCH = 16


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


def run_geneval(options: argparse.Namespace) -> None:
    """Print GenEval's summary of a folder, or of an official results.jsonl."""
    from harope.evaluation.geneval_scores import read_records, summarise, write_records
    from harope.report.benchmarks import (
        geneval_json,
        geneval_notes,
        geneval_table,
        models_table,
        not_official,
    )

    folder = _folder(options)
    models: list[ModelUsed] = []
    damaged: tuple[str, ...] = ()
    if folder.is_file():
        records = read_records(folder)
    else:
        done = _judge_geneval(options, folder)
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
    _finish(options, [whose, *geneval_notes(summary)], geneval_json(summary), models, damaged)


def run_dpg(options: argparse.Namespace) -> None:
    """Print DPG-Bench's scores of a folder, as scripted and corrected."""
    from harope.evaluation.dpg_folder import check_sizes, read_dpg_folder
    from harope.evaluation.dpg_questions import by_item, read_questions
    from harope.evaluation.dpg_run import answers_by_item, dpg_judge, dpg_made_by, dpg_tasks
    from harope.evaluation.dpg_scores import corrected_scores, scripted_scores
    from harope.evaluation.pictures import Damage
    from harope.evaluation.vqa import load_vqa
    from harope.report.benchmarks import (
        dpg_json,
        dpg_notes,
        dpg_table,
        models_table,
        not_official,
    )

    folder, tiles = _folder(options), options.samples_per_prompt
    _needs(options, "vqa", "questions")
    batch_size, state = _batch_size(options, DPG_BATCH), _state(options)
    rows = read_questions(options.questions)
    names = read_dpg_folder(folder, by_item(rows))
    damage = Damage(folder, len(names), options.max_unreadable)
    check_sizes(folder, list(names.values()), tiles, damage)
    vqa = load_vqa(options.vqa, state.device)
    results = _judge(
        options,
        dpg_tasks(names, by_item(rows)),
        dpg_judge(vqa, tiles, batch_size),
        dpg_made_by(vqa, tiles),
        damage,
        state,
        batch_size=1,
    )
    if results is None:
        return
    answers = answers_by_item(results)
    scripted, corrected = scripted_scores(rows, answers), corrected_scores(rows, answers)
    print(f"{folder}: {len(results)} pictures of {tiles} tiles")
    print(dpg_table(scripted, corrected))
    print(f"\n{models_table([vqa.used])}")
    notes = [not_official("DPG-Bench"), *dpg_notes(scripted, corrected, tiles)]
    _finish(options, notes, dpg_json(scripted, corrected), [vqa.used], damage.names)


def _judge_geneval(
    options: argparse.Namespace, folder: Path
) -> "tuple[list[Values], list[ModelUsed], tuple[str, ...]] | None":
    """Records, models and damaged files, for the first process."""
    from harope.evaluation.colors import CLIPColors
    from harope.evaluation.detectors import Mask2FormerDetector
    from harope.evaluation.geneval import GenEvalRules
    from harope.evaluation.geneval_folder import read_geneval_folder
    from harope.evaluation.geneval_run import geneval_judge, geneval_made_by, geneval_tasks
    from harope.evaluation.pictures import Damage

    _needs(options, "detector", "clip")
    batch_size, state = _batch_size(options, GENEVAL_BATCH), _state(options)
    pictures = read_geneval_folder(folder)
    damage = Damage(folder, len(pictures), options.max_unreadable)
    for picture in pictures:
        damage.size(picture.name)
    detector = Mask2FormerDetector(options.detector, state.device)
    colors, rules = CLIPColors(options.clip, state.device), GenEvalRules()
    results = _judge(
        options,
        geneval_tasks(pictures),
        geneval_judge(detector, colors, rules),
        geneval_made_by(detector, colors, rules),
        damage,
        state,
        batch_size=batch_size,
    )
    if results is None:
        return None
    return results, [detector.used, colors.used], damage.names


def _judge(
    options: argparse.Namespace,
    tasks: "Sequence[Task]",
    judge: "Judge",
    made_by: dict[str, Any],
    damage: "Damage",
    state: "PartialState",
    *,
    batch_size: int,
) -> "list[Values] | None":
    """All results, for the first process."""
    from harope.evaluation.ledger import Ledger, finished, judge_pictures

    ledger = Ledger(options.results, made_by, state.process_index)
    judge_pictures(
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
    results = finished(tasks, ledger, options.folder, damage)
    if not results:
        raise ValueError(f"{options.folder} has no picture that can be read")
    return results


def _folder(options: argparse.Namespace) -> Path:
    if options.folder is None:
        raise ValueError(f"pass the folder of pictures that {options.metric} shall score")
    return options.folder


def _needs(options: argparse.Namespace, *names: str) -> None:
    missing = [f"--{name}" for name in names if getattr(options, name) is None]
    if missing:
        raise ValueError(f"{options.metric} needs {' and '.join(missing)}")


def _batch_size(options: argparse.Namespace, default: int) -> int:
    size = default if options.batch_size is None else options.batch_size
    if size < 1:
        raise ValueError(f"batch_size {size} must be at least 1")
    return size


def _state(options: argparse.Namespace) -> "PartialState":
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    if state.num_processes > 1 and options.results is None:
        raise ValueError(f"{state.num_processes} processes share their work in --results FOLDER")
    return state


def _finish(
    options: argparse.Namespace,
    notes: list[str],
    values: dict[str, Any],
    models: "list[ModelUsed]",
    damaged: tuple[str, ...],
) -> None:
    """What is to be known, and everything as JSON."""
    from dataclasses import asdict

    from harope.evaluation.pictures import left_out

    for note in notes:
        print(note)
    if damaged:
        print(f"harope: warning: {left_out(str(options.folder), damaged)}", file=sys.stderr)
    if options.json:
        about = {
            "models": [asdict(model) for model in models],
            "official": False if models else None,
            "damaged": damaged,
            "notes": notes,
        }
        options.json.write_text(json.dumps(values | about, indent=2, allow_nan=False) + "\n")
