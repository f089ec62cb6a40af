"""Cache of text embeddings on disk, which are computed once and read by any process.

A folder contains `manifest.json` with the encoder's identity and with the source that it was loaded
from, and safetensors files whose metadata lists the captions of their rows. Files are written
atomically, so that an interrupted run continues with the captions that no file contains.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from harope._utils.atomic import atomic_path, remove_abandoned, write_json_atomic
from harope._utils.digests import bytes_digest
from harope._utils.identity import first_difference
from harope._utils.json_files import load_json, parse_json, validate
from harope._utils.progress import Progress
from harope.lab.text.encoder import (
    DEFAULT_MAX_TRUNCATED,
    TextEmbeddings,
    TextEncoder,
    check_truncation,
)

VERSION = 1
MANIFEST_FILE = "manifest.json"
CacheDtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
"""Data type of stored embeddings."""


def fill_cache(
    folder: str | Path,
    encoder: TextEncoder,
    captions: Sequence[str],
    *,
    batch_size: int = 64,
    rows_per_file: int = 1024,
    dtype: CacheDtype = "float32",
    source: Mapping[str, Any] | None = None,
    max_truncated: float | None = DEFAULT_MAX_TRUNCATED,
    quiet: bool = True,
) -> Path:
    """Encode the captions that are missing from a cache.

    Args:
        folder: Folder of the cache, created if necessary.
        encoder: Encoder of the captions.
        captions: Captions that the cache should contain.
        batch_size: Captions encoded at once.
        rows_per_file: Captions per file.
        dtype: Data type of the stored embeddings.
        source: What the encoder was loaded from, see `is_filled`; None if unknown.
        max_truncated: Largest fraction of the missing captions that the encoder may cut; None to
            cut any without counting them.
        quiet: Whether to hide the progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder contains embeddings of another encoder or data type, or too many
            captions are longer than the encoder reads.
    """
    folder = Path(folder)
    manifest = _Manifest(VERSION, dtype, encoder.identity, None if source is None else {**source})
    if (folder / MANIFEST_FILE).exists():
        _compare(folder, _read_manifest(folder), manifest)
        cached = set(EmbeddingCache(folder).captions)
    else:
        cached = set()
    missing = [caption for caption in dict.fromkeys(captions) if caption not in cached]
    check_truncation(encoder, missing, max_truncated)
    # Written after all checks, so that a refused call leaves the folder as it was.
    write_json_atomic(folder / MANIFEST_FILE, asdict(manifest))
    remove_abandoned(folder)
    number = _next_number(folder)
    with Progress(len(missing), "captions", quiet=quiet) as bar:
        for rows in _slices(missing, rows_per_file):
            parts = []
            for batch in _slices(rows, batch_size):
                parts.append(encoder.encode(batch).to("cpu"))
                bar.update(len(batch))
            # Named by its captions too: another process may fill the cache at the same time.
            digest = bytes_digest(*(caption.encode() for caption in rows), length=8)
            _write(folder / f"states-{number:05d}-{digest}.safetensors", rows, parts, dtype)
            number += 1
    return folder


def is_filled(
    folder: str | Path, captions: Sequence[str], source: Mapping[str, Any] | None, dtype: CacheDtype
) -> bool:
    """Return whether a cache has all captions from the expected encoder, without loading that.

    Args:
        folder: Folder of the cache.
        captions: Captions that the cache should contain.
        source: What the encoder is loaded from, as JSON values that change with its files and
            options; None if unknown.
        dtype: Data type of the stored embeddings.

    Returns:
        False if captions are missing, or if the cache was filled by an encoder of another or an
        unknown source. That encoder may be the same one; `fill_cache` finds out.

    Raises:
        ValueError: If the folder is a cache and is damaged.
    """
    if source is None or not (Path(folder) / MANIFEST_FILE).is_file():
        return False
    cache = EmbeddingCache(folder)
    expected = json.loads(json.dumps(source))
    same = (cache.manifest["source"], cache.manifest["dtype"]) == (expected, dtype)
    return same and set(captions) <= set(cache.captions)


class EmbeddingCache:
    """Reader of cached text embeddings, indexed by caption.

    Every process opens the files itself.

    Args:
        folder: Folder that `fill_cache` wrote.
        identity: Identity of the expected encoder; None to accept any.

    Raises:
        ValueError: If the folder is not a cache, is damaged or belongs to another encoder.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any] | None = None):
        self._folder = Path(folder)
        manifest = _read_manifest(self._folder)
        if identity is not None:
            _compare(self._folder, manifest, replace(manifest, encoder=identity))
        self.manifest = asdict(manifest)
        self._names = _files(self._folder)
        self._open_files: dict[int, Any] = {}
        self._locations = {
            caption: (file, row)
            for file in range(len(self._names))
            for row, caption in enumerate(self._captions_of(file))
        }

    def __len__(self) -> int:
        return len(self._locations)

    @property
    def captions(self) -> list[str]:
        """All captions whose embeddings are in the cache."""
        return list(self._locations)

    def read(self, captions: Sequence[str]) -> TextEmbeddings:
        """Return the embeddings of captions, in float32 on the CPU.

        Args:
            captions: Captions to look up.

        Returns:
            One row per caption.

        Raises:
            ValueError: If a caption is not in the cache.
        """
        rows = [self._row(caption) for caption in captions]
        states, pooled, mask = map(torch.stack, zip(*rows, strict=True))
        return TextEmbeddings(states.float(), pooled.float(), mask)

    def _row(self, caption: str) -> TextEmbeddings:
        if caption not in self._locations:
            raise ValueError(
                f"caption {caption!r} is not in the cache {self._folder}: add it with `fill_cache`"
            )
        number, row = self._locations[caption]
        file = self._open(number)
        return TextEmbeddings(*(file.get_slice(name)[row] for name in TextEmbeddings._fields))

    def _captions_of(self, number: int) -> list[str]:
        file, path = self._open(number), self._folder / self._names[number]
        try:
            text = (file.metadata() or {}).get("captions")
            if text is None:
                raise ValueError("it lists no captions")
            captions = validate(parse_json(text, "the list"), list[str], "the list of captions")
            for name in TextEmbeddings._fields:
                rows = file.get_slice(name).get_shape()[0]
                if rows != len(captions):
                    raise ValueError(f"it has {rows} rows of {name} of {len(captions)} captions")
        except (IndexError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{path} is damaged ({error}): delete it and fill the cache again"
            ) from error
        return captions

    def _open(self, number: int) -> Any:
        if number not in self._open_files:
            path = self._folder / self._names[number]
            try:
                self._open_files[number] = safe_open(path, framework="pt")
            except SafetensorError as error:
                raise ValueError(
                    f"{path} is damaged ({error}): delete it and fill the cache again"
                ) from error
        return self._open_files[number]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open_files": {}}


@dataclass(frozen=True)
class _Manifest:
    """Content of `manifest.json`."""

    version: int
    dtype: CacheDtype
    encoder: dict[str, Any]
    source: dict[str, Any] | None = None


def _read_manifest(folder: Path) -> _Manifest:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {MANIFEST_FILE}: pass a folder of cached text embeddings"
        )
    try:
        values = validate(load_json(path), dict[str, Any], "the file")
        if (version := values.get("version")) != VERSION:
            raise ValueError(f"its version is {version!r}, but this program reads {VERSION}")
        return validate(values, _Manifest, "the file")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): use a new folder") from error


def _compare(folder: Path, stored: _Manifest, given: _Manifest) -> None:
    """Raise ValueError if the encoders differ, wherever they were loaded from."""
    if difference := first_difference(asdict(stored), asdict(given), ignore=("source",)):
        raise ValueError(
            f"{folder} contains embeddings with {difference}: choose another folder, or use the "
            f"same encoder"
        )


def _write(path: Path, captions: list[str], parts: list[TextEmbeddings], dtype: CacheDtype) -> None:
    states, pooled, mask = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    stored = getattr(torch, dtype)
    tensors = TextEmbeddings(states.to(stored), pooled.to(stored), mask)._asdict()
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"captions": json.dumps(captions)})


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("states-*.safetensors"))


def _next_number(folder: Path) -> int:
    """Return one more than the last file's number, as earlier files may have been deleted."""
    names = _files(folder)
    return int(re.split("[-.]", names[-1])[1]) + 1 if names else 0


def _slices(values: list[str], size: int) -> Iterator[list[str]]:
    if size < 1:
        raise ValueError(f"batch_size and rows_per_file must be at least 1, got {size}")
    return (values[first : first + size] for first in range(0, len(values), size))
