"""Folders of captioned images.

Captions are read from a metadata file, as in the "imagefolder" format of Hugging Face datasets, or
from one text file per image.
"""

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harope._utils.text_files import read_json_lines, read_text
from harope._utils.untrusted import check_file_size
from harope.lab.data.captioned.base import (
    MAX_CAPTION_BYTES,
    CaptionedFilesDataset,
    Fit,
    clean_captions,
    match_files,
)
from harope.lab.data.dataset import ImageFilesDataConfig
from harope.lab.data.image_files import (
    EXTENSIONS,
    check_folder,
    find_images,
    is_other_image,
    visible_entries,
)
from harope.lab.data.left_out import LeftOut

METADATA_FILES = ("metadata.jsonl", "metadata.csv")
Items: TypeAlias = list[tuple[str, list[str]]]
CaptionLines: TypeAlias = Literal["joined", "first", "each"]


@dataclass(frozen=True, kw_only=True)
class CaptionedFolderDataConfig(ImageFilesDataConfig):
    """Folder of images with `metadata.jsonl` or `metadata.csv`, or with one `.txt` file each."""

    kind: Literal["captioned-folder"] = "captioned-folder"
    root: str
    """Folder with a metadata file (columns `file_name` and `text`), or `x.txt` for each `x.png`."""
    fit: Fit = "crop"
    """How images become square: by a centre crop ("crop") or white padding ("pad")."""
    text_column: str = "text"
    """Metadata column with the caption or a list of captions."""
    caption_lines: CaptionLines = "joined"
    """What the lines of a `.txt` file are: one caption ("joined"), a caption followed by something
    else, such as translations ("first"), or a caption each, of which one is picked at random for
    every sample ("each"). Empty lines are skipped in the last two."""


def open_captioned_folder(config: CaptionedFolderDataConfig, seed: int) -> CaptionedFilesDataset:
    """Open a folder of captioned images, in the order of its metadata or sorted by path.

    Args:
        config: Where the folder is, and how to read it.
        seed: Seed of the shuffles and of the choice among captions.

    Returns:
        The dataset.

    Raises:
        ValueError: If the folder contains no images, an image of the metadata is missing, too many
            images have no caption, or the metadata is invalid.
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If it is a file.
    """
    root = Path(config.root)
    check_folder(root, "images with captions")
    left_out = LeftOut(root)
    present = sorted(os.fsdecode(path) for path in find_images(root, left_out))
    if not present:
        raise ValueError(
            f"{root} contains no images: add files with the extensions {', '.join(EXTENSIONS)}"
        )
    metadata = _find_metadata(root, left_out)
    if metadata is None:
        items = _read_caption_files(root, present, config.caption_lines, left_out)
        _count_lone_captions(root, present, left_out)
    else:
        items = _read_metadata(metadata, config.text_column)
        match_files([name for name, _ in items], present, metadata, root, left_out)
    left_out.report(len(items), config.max_left_out)
    return CaptionedFilesDataset(root, items, config.image_size, seed, config.fit)


def _find_metadata(root: Path, left_out: LeftOut) -> Path | None:
    """Return the metadata file of a folder; further ones are left out."""
    found = [root / name for name in METADATA_FILES if (root / name).is_file()]
    below = sorted(path for name in METADATA_FILES for path in root.glob(f"*/{name}"))
    if below and not found:
        raise ValueError(
            f"{root} has no {METADATA_FILES[0]}, but {below[0].parent} has: pass that folder, or "
            f"move the metadata of all folders to {root}"
        )
    for path in [*found[1:], *below]:
        left_out.add(f"metadata files in addition to {found[0].name}", str(path.relative_to(root)))
    return found[0] if found else None


def _count_lone_captions(root: Path, images: list[str], left_out: LeftOut) -> None:
    """Count the text files in the folders of the images that belong to no image.

    Those of images in formats that are not read are left out with their image, and not counted.
    """
    used = {os.path.splitext(name)[0] for name in images}
    for folder in sorted({os.path.dirname(name) for name in images}):
        names = sorted(os.path.join(folder, entry.name) for entry in visible_entries(root / folder))
        used |= {os.path.splitext(name)[0] for name in names if is_other_image(name)}
        for name in names:
            stem, extension = os.path.splitext(name)
            if extension == ".txt" and stem not in used:
                left_out.add("text files without an image", name)


def _read_caption_files(
    root: Path, images: list[str], lines: CaptionLines, left_out: LeftOut
) -> Items:
    """Read the text files of images; images without one are left out."""
    items: Items = []
    for name in images:
        path = (root / name).with_suffix(".txt")
        if path.is_file():
            items.append((name, _read_caption_file(path, lines)))
        else:
            left_out.add("images without a caption", name)
    if not items:
        path = (root / images[0]).with_suffix(".txt")
        raise ValueError(
            f"{root} has {len(images)} images and no captions: add {path.name} next to "
            f"{Path(images[0]).name} and so on, or write a {METADATA_FILES[0]}"
        )
    return items


def _read_caption_file(path: Path, lines: CaptionLines) -> list[str]:
    check_file_size(path, MAX_CAPTION_BYTES)
    text = read_text(path)
    if lines == "joined":
        return clean_captions(text, str(path))
    captions = [line for line in text.splitlines() if line.strip()] or [""]
    return clean_captions(captions if lines == "each" else captions[0], str(path))


def _read_metadata(path: Path, text_column: str) -> Items:
    items: Items = []
    for where, row in _rows(path):
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise ValueError(f"{where} has no file_name: add the image's path")
        items.append(
            (os.path.normpath(row["file_name"]), clean_captions(row.get(text_column), where))
        )
    if not items:
        raise ValueError(f"{path} is empty: add a line for each image")
    return items


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the location and content of each metadata row."""
    if path.suffix != ".csv":
        yield from read_json_lines(path)
        return
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        yield from ((f"{path} row {number}", row) for number, row in enumerate(rows, start=1))
    except csv.Error as error:
        raise ValueError(f"{path} line {rows.line_num} is not CSV ({error}): repair it") from error
