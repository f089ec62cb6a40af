"""Text states on disk, by caption: encoded once, read by any process.

A folder holds ``manifest.json`` with the encoder's identity, and safetensors files whose metadata
list the captions of their rows. A file that exists is whole, so a filling that was interrupted
goes on with the captions that no file has.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from harope.lab.text.encoder import TextEmbeddings, TextEncoder

VERSION = 1
MANIFEST_FILE = "manifest.json"
CacheDtype: TypeAlias = Literal["float32", "bfloat16", "float16"]


def fill_cache(
    folder: str | Path,
    encoder: TextEncoder,
    captions: Sequence[str],
    *,
    batch_size: int = 64,
    rows_per_file: int = 1024,
    dtype: CacheDtype = "float32",
    quiet: bool = True,
) -> Path:
    """Encode the captions that ``folder`` lacks, ``batch_size`` at once; returns the folder.

    States are stored in ``dtype``. Raises ValueError where the folder is of another encoder or
    another dtype.
    """
    from tqdm import tqdm

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _begin(folder, {"version": VERSION, "dtype": dtype, "encoder": encoder.identity})
    there = set(EmbeddingCache(folder).captions)
    missing = [caption for caption in dict.fromkeys(captions) if caption not in there]
    number = _next_number(folder)
    with tqdm(total=len(missing), desc="captions", disable=quiet) as bar:
        for rows in _slices(missing, rows_per_file):
            parts = []
            for batch in _slices(rows, batch_size):
                parts.append(encoder.encode(batch).to("cpu"))
                bar.update(len(batch))
            _write(folder / f"states-{number:05d}.safetensors", rows, parts, dtype)
            number += 1
    return folder


class EmbeddingCache:
    """Reads states by caption. Every process opens the files for itself.

    With an ``encoder`` or its ``identity``, raises ValueError where the folder is of another one.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any] | None = None):
        self._folder = Path(folder)
        self.manifest = _read_manifest(self._folder)
        if identity is not None:
            _compare(self._folder, self.manifest, self.manifest | {"encoder": identity})
        self._names = _files(self._folder)
        self._open_files: dict[int, Any] = {}
        self._places = {
            caption: (file, row)
            for file in range(len(self._names))
            for row, caption in enumerate(self._captions_of(file))
        }

    def __len__(self) -> int:
        return len(self._places)

    @property
    def captions(self) -> list[str]:
        """All captions that the cache holds."""
        return list(self._places)

    def read(self, captions: Sequence[str]) -> TextEmbeddings:
        """States of these captions, on the CPU. ValueError naming one that is not there."""
        rows = [self._row(caption) for caption in captions]
        states, pooled, mask = map(torch.stack, zip(*rows, strict=True))
        return TextEmbeddings(states.float(), pooled.float(), mask)

    def _row(self, caption: str) -> TextEmbeddings:
        if caption not in self._places:
            raise ValueError(
                f"caption {caption!r} is not in {self._folder}: fill the cache with it first"
            )
        number, row = self._places[caption]
        file = self._open(number)
        return TextEmbeddings(*(file.get_slice(name)[row] for name in TextEmbeddings._fields))

    def _captions_of(self, number: int) -> list[str]:
        captions = (self._open(number).metadata() or {}).get("captions")
        if captions is None:
            raise ValueError(
                f"{self._folder / self._names[number]} is damaged (no captions): "
                "delete it, and fill again"
            )
        return json.loads(captions)

    def _open(self, number: int) -> Any:
        if number not in self._open_files:
            path = self._folder / self._names[number]
            try:
                self._open_files[number] = safe_open(path, framework="pt")
            except SafetensorError as error:
                raise ValueError(
                    f"{path} is damaged ({error}): delete it, and fill again"
                ) from error
        return self._open_files[number]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open_files": {}}


def _begin(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, or compare it with the one that a former run left there."""
    path = folder / MANIFEST_FILE
    if path.exists():
        _compare(folder, _read_manifest(folder), manifest)
        return
    beside = folder / f".{MANIFEST_FILE}.partial"
    beside.write_text(json.dumps(manifest, indent=2) + "\n")
    os.replace(beside, path)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {MANIFEST_FILE}: name a folder of cached text states")
    try:
        manifest = json.loads(path.read_text())
        if manifest["version"] != VERSION:
            raise ValueError(f"version {manifest['version']}, this program reads {VERSION}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): fill a new folder") from error
    return manifest


def _compare(folder: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    there, here = _flat(there), _flat(here)
    for field in [*there, *here]:
        if there.get(field) != here.get(field):
            raise ValueError(
                f"{folder} holds states of {field} {there.get(field)!r}, not "
                f"{here.get(field)!r}: name another folder, or use the same encoder"
            )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def _write(path: Path, captions: list[str], parts: list[TextEmbeddings], dtype: CacheDtype) -> None:
    states, pooled, mask = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    stored = getattr(torch, dtype)
    tensors = TextEmbeddings(states.to(stored), pooled.to(stored), mask)._asdict()
    beside = path.with_name(f".{path.name}.partial")
    save_file(tensors, beside, metadata={"captions": json.dumps(captions)})
    os.replace(beside, path)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("states-*.safetensors"))


def _next_number(folder: Path) -> int:
    """One more than the last file's: those before it may have been deleted."""
    names = _files(folder)
    return int(names[-1].partition("-")[2].partition(".")[0]) + 1 if names else 0


def _slices(values: list[str], size: int) -> Iterator[list[str]]:
    if size < 1:
        raise ValueError(f"batch_size and rows_per_file must be at least 1, got {size}")
    return (values[first : first + size] for first in range(0, len(values), size))
