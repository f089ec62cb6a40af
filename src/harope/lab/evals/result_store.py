"""Resumable scoring of images: results are stored in a folder as they are computed."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import UInt8

from harope._utils.identity import ResumableFolder
from harope._utils.json_files import parse_json, validate
from harope._utils.progress import Progress
from harope._utils.shards import strided_shard
from harope.lab.metrics.tolerant_reader import TolerantReader

MADE_BY_FILE = "made_by.json"

Values: TypeAlias = dict[str, Any]


class Request(NamedTuple):
    """An image and the question about it."""

    name: str
    """Path of the image relative to the root folder."""
    question: str
    """Text of the question. Stored results become invalid when it changes."""


class Key(NamedTuple):
    """Identifies a stored result: the same image and question have the same key."""

    name: str
    """Path of the image relative to the root folder."""
    digest: str
    """Digest of the image file and the question."""


@dataclass(frozen=True)
class _Entry:
    """A stored line."""

    name: str
    digest: str
    values: Values


Scorer: TypeAlias = Callable[
    [Sequence[Request], Sequence[UInt8[np.ndarray, "height width 3"]]], list[Values]
]
"""Maps a batch of requests and their images to one result each."""


class ResultStore:
    """Results by image, in memory and in JSON lines files, one file per process.

    The folder also stores the settings that the results depend on, and is only reused with the
    same.

    Args:
        folder: Folder of the results; None to store them in memory only.
        made_by: Everything except the images and questions that the results depend on, as JSON
            values.
        rank: Number of this process, which appends to a file of its own.

    Raises:
        ValueError: If the folder contains results with other settings, or other files.
    """

    def __init__(self, folder: Path | None, made_by: Values, rank: int = 0):
        self._rank, self._begun = rank, False
        self._results: dict[Key, Values] = {}
        self._store = None if folder is None else _result_folder(folder, made_by)
        if self._store is not None:
            self._store.check()
            self.reread()

    def __contains__(self, key: Key) -> bool:
        return key in self._results

    def __getitem__(self, key: Key) -> Values:
        return self._results[key]

    def add(self, key: Key, values: Values) -> None:
        """Store a result in memory and, if there is a folder, on disk.

        Args:
            key: Image and question of the result.
            values: The result as JSON values.
        """
        self._results[key] = values
        if self._store is None:
            return
        if not self._begun:
            # Not earlier, so that a command that fails leaves no folder.
            self._store.begin()
            self._begun = True
        line = json.dumps({**key._asdict(), "values": values})
        path = self._store.folder / f"part-{self._rank:05d}.jsonl"
        with path.open("a", encoding="utf-8") as file:
            # The leading newline ends a line that an interrupted run left incomplete.
            file.write(f"\n{line}\n")

    def reread(self) -> None:
        """Read the results that all processes have written so far.

        Raises:
            ValueError: If a line is complete but not a result.
        """
        if self._store is None:
            return
        for path in sorted(self._store.folder.glob("part-*.jsonl")):
            for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
                if (entry := _parse_entry(line, f"{path} line {number}")) is not None:
                    self._results[Key(entry.name, entry.digest)] = entry.values


def score_images(
    root: Path,
    requests: Sequence[Request],
    scorer: Scorer,
    store: ResultStore,
    reader: TolerantReader,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    quiet: bool = True,
) -> None:
    """Score this process's part of the images that have no valid result in the store.

    Args:
        root: Folder of the images.
        requests: All requests, of which process `rank` takes every `world_size`-th.
        scorer: Computes the results.
        store: Receives the results. A changed image or question is scored again.
        reader: Reads the images; those that it cannot read get no result.
        batch_size: Images per call of `scorer`.
        rank: Number of this process.
        world_size: Number of processes.
        quiet: Whether to hide the progress bar.

    Raises:
        ValueError: If `batch_size` is below 1 or too many images are damaged.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    keyed = [
        (request, _key(root, request)) for request in strided_shard(requests, rank, world_size)
    ]
    missing = [(request, key) for request, key in keyed if key not in store]
    with Progress(len(missing), f"images of {root}", quiet=quiet) as bar:
        for start in range(0, len(missing), batch_size):
            chunk = missing[start : start + batch_size]
            _score_batch(chunk, scorer, store, reader)
            bar.update(len(chunk))


def collect_results(
    requests: Iterable[Request], store: ResultStore, root: Path, reader: TolerantReader
) -> list[Values]:
    """Collect all results, once all processes have finished.

    Args:
        requests: All requests.
        store: Store of any process; the results of the others are read from its folder.
        root: Folder of the images.
        reader: Reader of the images; those that it cannot read are left out.

    Returns:
        The results in the order of the requests.

    Raises:
        ValueError: Naming the first readable image that has no result.
    """
    store.reread()
    results = []
    for request in requests:
        if (key := _key(root, request)) in store:
            results.append(store[key])
        elif reader.read(request.name) is not None:
            raise ValueError(
                f"{root / request.name} has no result: run all processes to completion"
            )
    return results


def _result_folder(folder: Path, made_by: Values) -> ResumableFolder:
    return ResumableFolder(
        folder,
        made_by,
        manifest=folder / MADE_BY_FILE,
        content="results",
        hint="choose another --results",
    )


def _score_batch(
    chunk: Sequence[tuple[Request, Key]], scorer: Scorer, store: ResultStore, reader: TolerantReader
) -> None:
    images = [(request, key, reader.read(request.name)) for request, key in chunk]
    readable = [(request, key, image) for request, key, image in images if image is not None]
    if not readable:
        return
    results = scorer([request for request, _, _ in readable], [image for _, _, image in readable])
    for (_, key, _), values in zip(readable, results, strict=True):
        store.add(key, values)


def _key(root: Path, request: Request) -> Key:
    content = (root / request.name).read_bytes()
    digest = hashlib.sha256(request.question.encode() + b"\0" + content).hexdigest()[:16]
    return Key(request.name, digest)


def _parse_entry(line: bytes, where: str) -> _Entry | None:
    """Parse a stored line; None for an empty line, or one that a killed process left incomplete."""
    try:
        values = parse_json(line, where)
    except ValueError:
        return None
    return validate(values, _Entry, where)
