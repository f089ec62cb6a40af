"""Emoji with their names as captions, out of the npm package `emoji-datasource-google`.

Pictures and names are Google's Noto emoji (Apache-2.0) as iamcal/emoji-data collects them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harope._utils.json_files import load_json
from harope.lab.data.captioned.base import CaptionedFilesDataset, check_image_size

Split: TypeAlias = Literal["train", "test"]

IMAGE_FOLDER = "img/google/64"
_TONES = {
    "1F3FB": "light",
    "1F3FC": "medium-light",
    "1F3FD": "medium",
    "1F3FE": "medium-dark",
    "1F3FF": "dark",
}
_HELD_OUT_SHARE = 19


@dataclass(frozen=True, kw_only=True)
class EmojiDataConfig:
    """Emoji of 64 x 64 pixels on white, about 3,600 to train on and 200 held out."""

    kind: Literal["emoji"] = "emoji"
    root: str
    """Folder of the package, with `emoji.json` and `img/google/64`."""
    image_size: int = 64
    """Height and width in pixels of a draw."""
    split: Split = "train"
    """Which captions: a nineteenth, chosen by their hashes, are for testing."""
    only: tuple[str, ...] = ()
    """Captions to keep of the split; all of them where none is named."""

    def __post_init__(self) -> None:
        check_image_size(self.image_size)


def open_emoji(config: EmojiDataConfig, seed: int) -> CaptionedFilesDataset:
    """The emoji of a split, skin tones included, in the package's order.

    Raises ValueError naming the file where the package is not there or not whole.
    """
    path = Path(config.root) / "emoji.json"
    try:
        items = list(_items(load_json(path)))
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as a list of emoji ({error!r}): "
            "install emoji-datasource-google and name its folder"
        ) from error
    root = Path(config.root) / IMAGE_FOLDER
    chosen = [
        (file, [caption]) for file, caption in items if caption_split(caption) == config.split
    ]
    if not chosen:
        raise ValueError(f"{path} has no emoji of split {config.split!r}: take the whole package")
    if config.only:
        chosen = _keep(chosen, config, path)
    for file, _ in chosen:
        if not (root / file).is_file():
            raise ValueError(f"{path} names {file}, which {root} lacks: install the package again")
    return CaptionedFilesDataset(root, chosen, config.image_size, seed, fit="pad")


def caption_split(caption: str) -> Split:
    """The split of a caption: the same in every version of the package, and on every machine."""
    digest = hashlib.sha256(caption.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % _HELD_OUT_SHARE == 0 else "train"


def _keep(
    items: list[tuple[str, list[str]]], config: EmojiDataConfig, path: Path
) -> list[tuple[str, list[str]]]:
    """Those whose captions are asked for."""
    missing = set(config.only) - {captions[0] for _, captions in items}
    if missing:
        raise ValueError(
            f"{path} has no emoji {min(missing)!r} in its split {config.split!r}: name others in "
            f"only"
        )
    return [item for item in items if item[1][0] in config.only]


def _items(entries: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """File and caption of each picture that the package has."""
    for entry in entries:
        name = entry["name"].lower()
        if entry["has_img_google"]:
            yield entry["image"], name
        for tones, variant in entry.get("skin_variations", {}).items():
            if variant["has_img_google"]:
                yield variant["image"], f"{name}, {_tone_words(tones)}"


def _tone_words(codes: str) -> str:
    """ "1F3FB-1F3FF" as "light skin tone, dark skin tone", as in Unicode's own names."""
    return ", ".join(f"{_TONES[code]} skin tone" for code in codes.split("-"))
