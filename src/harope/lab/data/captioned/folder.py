"""Folders of captioned pictures: with metadata as `datasets` reads it, or a text file beside each.

The first form is the "imagefolder" of Hugging Face datasets.
"""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harope._utils.json_files import parse_json
from harope.lab.data.captioned.base import (
    CaptionedFilesDataset,
    check_image_size,
    clean_captions,
    require,
)
from harope.lab.data.image_io import EXTENSIONS, Fit, find_images

METADATA_FILES = ("metadata.jsonl", "metadata.csv")
Items: TypeAlias = list[tuple[str, list[str]]]


@dataclass(frozen=True, kw_only=True)
class CaptionedFolderDataConfig:
    """A folder of pictures with `metadata.jsonl` or `metadata.csv`, or with `.txt` files."""

    kind: Literal["captioned-folder"] = "captioned-folder"
    root: str
    """Holds the metadata file (columns `file_name` and `text`), or `x.txt` beside each `x.png`."""
    image_size: int = 256
    """Height and width in pixels of a draw."""
    fit: Fit = "crop"
    """Whether the centre is cut out, or white is added to make the picture square."""
    text_column: str = "text"
    """Column of the metadata that holds the caption, or a list of captions."""

    def __post_init__(self) -> None:
        check_image_size(self.image_size)


def open_captioned_folder(config: CaptionedFolderDataConfig, seed: int) -> CaptionedFilesDataset:
    """The folder's pictures in the order of its metadata, or sorted by name.

    Raises ValueError naming the file for a missing caption, a missing picture or an empty folder.
    """
    root = Path(config.root)
    present = sorted(os.fsdecode(path) for path in find_images(root))
    if not present:
        raise ValueError(
            f"{root} holds no image: put files ending in {', '.join(EXTENSIONS)} there"
        )
    metadata = next((root / name for name in METADATA_FILES if (root / name).is_file()), None)
    if metadata is None:
        items = [(name, _text_beside(root / name)) for name in present]
    else:
        items = _read_metadata(metadata, config.text_column)
        require((name for name, _ in items), set(present), metadata, root)
    return CaptionedFilesDataset(root, items, config.image_size, seed, config.fit)


def _text_beside(image: Path) -> list[str]:
    path = image.with_suffix(".txt")
    if not path.is_file():
        raise ValueError(
            f"{image} has no caption: write {path.name} beside it, or a {METADATA_FILES[0]}"
        )
    return clean_captions(_read_text(path), str(path))


def _read_metadata(path: Path, text_column: str) -> Items:
    items: Items = []
    for place, row in _rows(path):
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise ValueError(f"{place} has no file_name: name the picture")
        items.append(
            (os.path.normpath(row["file_name"]), clean_captions(row.get(text_column), place))
        )
    if not items:
        raise ValueError(f"{path} is empty: write a line for each picture")
    return items


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row with the place it stands at."""
    text = _read_text(path)
    if path.suffix == ".csv":
        rows: Iterable[Any] = csv.DictReader(io.StringIO(text, newline=""))
        yield from ((f"{path} row {number}", row) for number, row in enumerate(rows, start=1))
        return
    # Not splitlines: captions may hold other separators, which JSON leaves as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path} line {number}"
            yield where, parse_json(line, where)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}): convert it") from error
