"""Emoji captioned with their names, from the npm package `emoji-datasource-google`.

The images are Google's Noto emoji (Apache-2.0) as collected by iamcal/emoji-data.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from harope._utils.json_files import load_json, validate
from harope._utils.untrusted import check_plain_name
from harope.lab.data.captioned.base import CaptionedFilesDataset
from harope.lab.data.dataset import ImageDataConfig

Split: TypeAlias = Literal["train", "test"]

IMAGE_FOLDER = "img/google/64"
_TONES = {
    "1F3FB": "light",
    "1F3FC": "medium-light",
    "1F3FD": "medium",
    "1F3FE": "medium-dark",
    "1F3FF": "dark",
}
# One caption in so many is a test caption.
_TEST_EVERY = 19


@dataclass(frozen=True, kw_only=True)
class EmojiDataConfig(ImageDataConfig):
    """Emoji of 64 x 64 pixels on white: about 3,600 for training and 200 for testing."""

    kind: Literal["emoji"] = "emoji"
    root: str
    """Folder of the npm package, with `emoji.json` and `img/google/64`."""
    image_size: int = 64
    """Height and width in pixels."""
    split: Split = "train"
    """Which emoji: about one in 19, selected by a hash of the caption, is for testing."""
    only: tuple[str, ...] = ()
    """Captions of the split to use; empty for all."""


@dataclass(frozen=True)
class _Variant:
    image: str
    has_img_google: bool

    def __post_init__(self) -> None:
        check_plain_name(self.image, "an emoji")


@dataclass(frozen=True)
class _Entry(_Variant):
    """Fields of an emoji that are read."""

    name: str
    skin_variations: dict[str, _Variant] = field(default_factory=dict)


def open_emoji(config: EmojiDataConfig, seed: int) -> CaptionedFilesDataset:
    """Open the emoji of a split in the package's order, including all skin tones.

    Args:
        config: Where the package is, and which emoji to use.
        seed: Seed of the shuffles.

    Returns:
        The dataset, padded with white to squares.

    Raises:
        ValueError: If the package is missing or incomplete, or `config.only` contains a caption
            that is not in the split.
    """
    path = Path(config.root) / "emoji.json"
    try:
        items = list(_items(validate(load_json(path), list[_Entry], "the file")))
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as a list of emoji ({error}): install the npm package "
            "emoji-datasource-google and pass its folder"
        ) from error
    root = Path(config.root) / IMAGE_FOLDER
    chosen = [
        (file, [caption]) for file, caption in items if caption_split(caption) == config.split
    ]
    if not chosen:
        raise ValueError(
            f"{path} has no emoji in the split {config.split!r}: use the complete package"
        )
    if config.only:
        chosen = _select(chosen, config, path)
    for file, _ in chosen:
        if not (root / file).is_file():
            raise ValueError(
                f"{path} lists {file}, which is missing from {root}: install the package again"
            )
    return CaptionedFilesDataset(root, chosen, config.image_size, seed, fit="pad")


def caption_split(caption: str) -> Split:
    """Return the split of an emoji, which depends on its caption only.

    A caption therefore stays in its split in every version of the package.

    Args:
        caption: Caption of the emoji.

    Returns:
        "test" for about one caption in 19, else "train".
    """
    digest = hashlib.sha256(caption.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % _TEST_EVERY == 0 else "train"


def _select(
    items: list[tuple[str, list[str]]], config: EmojiDataConfig, path: Path
) -> list[tuple[str, list[str]]]:
    """Return the items whose captions are in `config.only`."""
    missing = set(config.only) - {captions[0] for _, captions in items}
    if missing:
        raise ValueError(
            f"only names {min(missing)!r}, which is not a caption of the split {config.split!r} of "
            f"{path}: remove it"
        )
    return [item for item in items if item[1][0] in config.only]


def _items(entries: "list[_Entry]") -> Iterator[tuple[str, str]]:
    """Yield the file name and caption of each image in the package."""
    for entry in entries:
        name = entry.name.lower()
        if entry.has_img_google:
            yield entry.image, name
        for tones, variant in entry.skin_variations.items():
            if variant.has_img_google:
                yield variant.image, f"{name}, {_tone_words(tones)}"


def _tone_words(codes: str) -> str:
    """Translate code points such as "1F3FB-1F3FF" to "light skin tone, dark skin tone"."""
    unknown = [code for code in codes.split("-") if code not in _TONES]
    if unknown:
        raise ValueError(f"skin tone {unknown[0]!r} is none of {', '.join(_TONES)}")
    return ", ".join(f"{_TONES[code]} skin tone" for code in codes.split("-"))
