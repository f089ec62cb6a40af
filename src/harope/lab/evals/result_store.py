"""Results of pictures, kept in a folder as they come, by one process or several."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import UInt8

from harope._utils.atomic import write_text_atomic
from harope._utils.json_files import read_json
from harope._utils.shards import strided_shard
from harope.lab.metrics.tolerant_reader import TolerantReader

MADE_BY_FILE = "made_by.json"

Values: TypeAlias = dict[str, Any]


class Task(NamedTuple):
    """A picture and what is asked of it."""

    name: str
    """Its path from the root."""
    asked: str
    """In words: a result counts no longer when they change."""


class Key(NamedTuple):
    """What a result belongs to."""

    name: str
    digest: str
    """Of the picture and what is asked of it."""


Judge: TypeAlias = Callable[
    [Sequence[Task], Sequence[UInt8[np.ndarray, "height width 3"]]], list[Values]
]
"""What is found in pictures, one result each."""


class ResultStore:
    """Results by picture, a line of JSON each, one file per process; without a folder in memory.

    `made_by` is what they depend on besides the pictures. Raises ValueError where the folder holds
    results that were made otherwise.
    """

    def __init__(self, folder: Path | None, made_by: Values, rank: int = 0):
        self._folder, self._rank = folder, rank
        self._held: dict[Key, Values] = {}
        if folder is not None:
            _open(folder, made_by)
            self.reread()

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def __getitem__(self, key: Key) -> Values:
        return self._held[key]

    def add(self, key: Key, values: Values) -> None:
        """Keep a result."""
        self._held[key] = values
        if self._folder is None:
            return
        line = json.dumps({**key._asdict(), "values": values})
        with self._part().open("a", encoding="utf-8") as file:
            # A line that was cut off ends before the next begins.
            file.write(f"\n{line}\n")

    def reread(self) -> None:
        """Take up what all processes have written."""
        if self._folder is None:
            return
        for path in self._folder.glob("part-*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if (entry := _entry(line)) is not None:
                    self._held[Key(entry["name"], entry["digest"])] = entry["values"]

    def _part(self) -> Path:
        assert self._folder is not None
        return self._folder / f"part-{self._rank:05d}.jsonl"


def score_images(
    root: Path,
    tasks: Sequence[Task],
    judge: Judge,
    ledger: ResultStore,
    damage: TolerantReader,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    quiet: bool = True,
) -> None:
    """Put into the ledger what it lacks of one process's share, `batch_size` pictures at once.

    Damaged pictures get no result. A picture that was changed since is judged again.
    """
    from tqdm import tqdm

    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    mine = [(task, _key(root, task)) for task in strided_shard(tasks, rank, world_size)]
    missing = [(task, key) for task, key in mine if key not in ledger]
    with tqdm(total=len(missing), desc=str(root), disable=quiet) as bar:
        for start in range(0, len(missing), batch_size):
            chunk = missing[start : start + batch_size]
            _judge_batch(chunk, judge, ledger, damage)
            bar.update(len(chunk))


def finished(
    tasks: Iterable[Task], ledger: ResultStore, root: Path, damage: TolerantReader
) -> list[Values]:
    """Results in the order of the pictures, when all processes are done; damaged ones left out."""
    ledger.reread()
    results = []
    for task in tasks:
        if (key := _key(root, task)) in ledger:
            results.append(ledger[key])
        elif damage.read(task.name) is not None:
            raise ValueError(
                f"{root / task.name} has no result: let all processes run to their end"
            )
    return results


def _judge_batch(
    chunk: Sequence[tuple[Task, Key]], judge: Judge, ledger: ResultStore, damage: TolerantReader
) -> None:
    images = [(task, key, damage.read(task.name)) for task, key in chunk]
    whole = [(task, key, image) for task, key, image in images if image is not None]
    if not whole:
        return
    results = judge([task for task, _, _ in whole], [image for _, _, image in whole])
    for (_, key, _), values in zip(whole, results, strict=True):
        ledger.add(key, values)


def _key(root: Path, task: Task) -> Key:
    content = (root / task.name).read_bytes()
    return Key(task.name, hashlib.sha256(task.asked.encode() + b"\0" + content).hexdigest()[:16])


def _entry(line: str) -> Values | None:
    """None for an empty line and for one that was cut off."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def _open(folder: Path, made_by: Values) -> None:
    """Write what the results depend on, or compare; processes write the same."""
    path, text = folder / MADE_BY_FILE, json.dumps(made_by, indent=1)
    # Looked for before the file: another process writes that first.
    busy = folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir())
    if path.is_file():
        before = read_json(path, dict[str, Any])
        for name, value in json.loads(text).items():
            if before.get(name) != value:
                raise ValueError(
                    f"{folder} holds results with {name} {before.get(name)} and now it is "
                    f"{value}: name another folder"
                )
        return
    if busy:
        raise ValueError(f"{folder} holds files but no {MADE_BY_FILE}: name another folder")
    write_text_atomic(path, text + "\n")
