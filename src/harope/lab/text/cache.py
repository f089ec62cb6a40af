"""Cache of text embeddings on disk, which are computed once and read by any process.

A folder contains `manifest.json` with the encoder's identity, and safetensors files whose metadata
lists the captions of their rows. Files are written atomically, so that an interrupted run continues
with the captions that no file contains.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from harope._utils.atomic import atomic_path, remove_abandoned, write_json_atomic
from harope._utils.identity import first_difference
from harope._utils.json_files import load_json
from harope.lab.text.encoder import TextEmbeddings, TextEncoder

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
        quiet: Whether to hide the progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder contains embeddings of another encoder or data type.
    """
    from tqdm import tqdm

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _begin(folder, {"version": VERSION, "dtype": dtype, "encoder": encoder.identity})
    remove_abandoned(folder)
    cached = set(EmbeddingCache(folder).captions)
    missing = [caption for caption in dict.fromkeys(captions) if caption not in cached]
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
        self.manifest = _read_manifest(self._folder)
        if identity is not None:
            _compare(self._folder, self.manifest, self.manifest | {"encoder": identity})
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
        """All captions in the cache."""
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
        captions = (self._open(number).metadata() or {}).get("captions")
        if captions is None:
            raise ValueError(
                f"{self._folder / self._names[number]} is damaged (it lists no captions): "
                "delete it and fill the cache again"
            )
        return json.loads(captions)

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


def _begin(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, or compare it with the existing one."""
    path = folder / MANIFEST_FILE
    if path.exists():
        _compare(folder, _read_manifest(folder), manifest)
        return
    write_json_atomic(path, manifest)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {MANIFEST_FILE}: pass a folder of cached text embeddings"
        )
    try:
        manifest = load_json(path)
        if manifest["version"] != VERSION:
            raise ValueError(
                f"its version is {manifest['version']}, but this program reads {VERSION}"
            )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): use a new folder") from error
    return manifest


def _compare(folder: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    if difference := first_difference(there, here):
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
    return int(names[-1].partition("-")[2].partition(".")[0]) + 1 if names else 0


def _slices(values: list[str], size: int) -> Iterator[list[str]]:
    if size < 1:
        raise ValueError(f"batch_size and rows_per_file must be at least 1, got {size}")
    return (values[first : first + size] for first in range(0, len(values), size))
