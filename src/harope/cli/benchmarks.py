"""Shared parts of `harope evaluate geneval` and `harope evaluate dpg`."""

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harope._utils.atomic import write_json_atomic
from harope._utils.untrusted import printable
from harope.cli.parsers import add_json_argument

if TYPE_CHECKING:
    from accelerate import PartialState

    from harope.lab.evals.local_models import ModelInfo
    from harope.lab.evals.result_store import Request, Scorer, Values
    from harope.lab.metrics.tolerant_reader import TolerantReader

Result = TypeVar("Result")


def add_arguments(parser: argparse.ArgumentParser, *, batch_size: int, unit: str) -> None:
    """Add the arguments that `harope evaluate geneval` and `harope evaluate dpg` share.

    Args:
        parser: Parser of the tool.
        batch_size: Default batch size.
        unit: What a batch is made of, in the plural.
    """
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder for the models' answers, from which an interrupted command resumes; required "
        "with several processes",
    )
    parser.add_argument(
        "--batch-size", type=int, default=batch_size, help=f"number of {unit} at once"
    )
    add_max_unreadable(parser)
    add_json_argument(parser)


def add_max_unreadable(parser: argparse.ArgumentParser) -> None:
    """Add the option of tools that tolerate damaged images.

    Args:
        parser: Parser of the tool.
    """
    parser.add_argument(
        "--max-unreadable",
        type=float,
        default=0.0,
        help="largest fraction of unreadable files in a folder",
    )


@dataclass(frozen=True)
class JudgedFolder(Generic[Result]):
    """Results of a benchmark's images, and what they were computed by."""

    results: Result
    """Verdicts or answers."""
    models: "Sequence[ModelInfo]" = ()
    """Models that judged the images; none for results of the official scorer."""
    unreadable: tuple[str, ...] = ()
    """Names of the images that could not be read."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of a benchmark, as text and as JSON values."""

    benchmark: str
    """Name of the benchmark."""
    content: str
    """What was scored, in numbers."""
    table: str
    """Table of the scores."""
    notes: list[str]
    """Remarks on the scores."""
    values: dict[str, Any]
    """The scores as JSON values."""


def judge_images(
    options: argparse.Namespace,
    requests: "Sequence[Request]",
    scorer: "Scorer",
    made_by: dict[str, Any],
    reader: "TolerantReader",
    state: "PartialState",
    *,
    batch_size: int,
) -> "list[Values] | None":
    """Score all images of a folder, sharing the work with the other processes.

    Args:
        options: Options of the command.
        requests: Requests to score.
        scorer: Function that scores images.
        made_by: Identity of the models and settings, stored with the results.
        reader: Reader of the images, which tolerates a fraction of unreadable files.
        state: This process among the others.
        batch_size: Number of images scored at once.

    Returns:
        All results in the first process, None in the others.

    Raises:
        ValueError: If no image can be read.
    """
    from harope._utils.distributed import wait_for_everyone
    from harope.lab.evals.result_store import ResultStore, collect_results, score_images

    store = ResultStore(options.results, made_by, state.process_index)
    score_images(
        options.folder,
        requests,
        scorer,
        store,
        reader,
        batch_size=batch_size,
        rank=state.process_index,
        world_size=state.num_processes,
        quiet=not state.is_main_process,
    )
    wait_for_everyone()
    if not state.is_main_process:
        return None
    results = collect_results(requests, store, options.folder, reader)
    if not results:
        raise ValueError(f"{options.folder} has no image that can be read")
    return results


def require_options(options: argparse.Namespace, *names: str) -> None:
    """Check that options are given.

    Args:
        options: Options of the command.
        names: Names of the required options.

    Raises:
        ValueError: If options are missing.
    """
    missing = [f"--{name}" for name in names if getattr(options, name) is None]
    if missing:
        raise ValueError(f"{options.metric} requires {' and '.join(missing)}")


def checked_batch_size(options: argparse.Namespace) -> int:
    """Return the batch size.

    Args:
        options: Options of the command.

    Returns:
        The batch size.

    Raises:
        ValueError: If the batch size is less than 1.
    """
    if options.batch_size < 1:
        raise ValueError(f"batch_size {options.batch_size} must be at least 1")
    return int(options.batch_size)


def process_state(options: argparse.Namespace) -> "PartialState":
    """Return the state of this process among the others.

    Args:
        options: Options of the command.

    Returns:
        Rank, number of processes and device.

    Raises:
        ValueError: If there are several processes, but no folder for their results.
    """
    from harope._utils.distributed import this_process

    state = this_process()
    if state.num_processes > 1 and options.results is None:
        raise ValueError(
            f"{state.num_processes} processes need a folder to share results; pass --results FOLDER"
        )
    return state


def report(options: argparse.Namespace, judged: JudgedFolder[Any], scores: Scores) -> None:
    """Print scores, models, notes and unreadable images, and write everything to `--json`.

    Args:
        options: Options of the command.
        judged: Where the scores come from.
        scores: The scores.
    """
    from harope.lab.evals.tables import models_table, not_official
    from harope.lab.metrics.tolerant_reader import skipped_files_note

    print(f"{options.folder}: {scores.content}")
    # Names of tasks and prompts come from files.
    for line in scores.table.split("\n"):
        print(printable(line))
    if judged.models:
        print(f"\n{models_table(judged.models)}")
        origin = not_official(scores.benchmark)
    else:
        origin = f"the results are those stored in {options.folder}"
    notes = [origin, *scores.notes]
    for note in notes:
        print(printable(note))
    if judged.unreadable:
        print_warnings([skipped_files_note(str(options.folder), judged.unreadable)])
    if options.json:
        about = {
            "models": [asdict(model) for model in judged.models],
            "official": False if judged.models else None,
            "damaged": judged.unreadable,
            "notes": notes,
        }
        write_json_atomic(options.json, scores.values | about, allow_nan=False)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the texts of UserWarnings instead of showing them.

    Yields:
        A list, which is filled with the different texts when the block ends.
    """
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield notes
    notes += dict.fromkeys(str(warning.message) for warning in caught)


def print_warnings(notes: Iterable[str]) -> None:
    """Print warnings to stderr, one per line.

    Args:
        notes: The texts, whose control characters are escaped.
    """
    for note in notes:
        print(f"harope: warning: {printable(note)}", file=sys.stderr)
