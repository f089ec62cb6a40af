"""Captioned pictures in tar shards, as WebDataset lays them out: KEY.jpg beside KEY.txt."""

import glob
import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.json_files import parse_json
from harope.lab.data.captioned.base import FiniteCaptionedDataset, check_image_size, clean_captions
from harope.lab.data.image_io import EXTENSIONS, read_image_on_white
from harope.lab.data.string_table import StringTable

CAPTION_FIELDS = ("caption", "text")
"""Fields of a KEY.json that hold the caption, the first one first."""

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class WebDatasetDataConfig:
    """Tar shards of pictures and captions, such as BLIP3o-60k."""

    kind: Literal["webdataset"] = "webdataset"
    root: str
    """Path of the shards: one file, `{00000..00010}` for a range, `{a,b}`, or `*` and `?`."""
    image_size: int = 256
    """Height and width in pixels of the centre crop."""

    def __post_init__(self) -> None:
        check_image_size(self.image_size)


class _Sample(NamedTuple):
    """A picture's name, where its bytes lie in the shard, and its captions."""

    name: str
    offset: int
    size: int
    captions: list[str]


class TarShardDataset(FiniteCaptionedDataset):
    """RGB images (3, image_size, image_size) of tar shards, with captions, in the shards' order.

    Opening reads the headers of all shards once and keeps the offset of each picture, so that any
    draw is one seek. Raises ValueError naming the shard and member for a picture without a
    caption, and on drawing for one that cannot be read.
    """

    def __init__(self, pattern: str, image_size: int, seed: int = 0):
        self._shards = find_shards(pattern)
        indexed = [_index(path) for path in self._shards]
        samples = [sample for shard in indexed for sample in shard]
        self._shard_of = np.repeat(np.arange(len(indexed)), [len(shard) for shard in indexed])
        self._spans = np.array([(s.offset, s.size) for s in samples], dtype=np.int64)
        self._names = StringTable([sample.name] for sample in samples)
        self._captions = StringTable(sample.captions for sample in samples)
        self.shape = (3, image_size, image_size)
        super().__init__(len(samples), seed)

    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch 3 height width"]:
        """The images at these places."""
        return torch.stack([self._image(index) for index in indices])

    def captions(self, index: int) -> list[str]:
        """All captions of the image at this place."""
        return self._captions[index]

    def _image(self, index: int) -> Float32[Tensor, "3 height width"]:
        path = self._shards[self._shard_of[index]]
        offset, size = self._spans[index]
        with open(path, "rb") as shard:
            shard.seek(offset)
            member = io.BytesIO(shard.read(size))
        return read_image_on_white(member, self.shape[1], name=f"{path}: {self._names[index][0]}")


def find_shards(pattern: str) -> list[Path]:
    """The files of a pattern with `{00000..00010}`, `{a,b}`, `*` and `?`, in its order.

    Raises ValueError naming a shard that is missing, or the pattern where nothing matches.
    """
    shards: list[Path] = []
    for name in _expand(pattern):
        found = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        missing = [path for path in found if not Path(path).is_file()]
        if missing or not found:
            raise ValueError(f"shard {(missing or [name])[0]} of {pattern!r} is missing: add it")
        shards += map(Path, found)
    return shards


def _expand(pattern: str) -> Iterator[str]:
    """Braces written out: those of a range keep its leading zeros."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [_choices(part) if place % 2 else [part] for place, part in enumerate(parts)]
    return map("".join, product(*choices))


def _choices(braced: str) -> list[str]:
    span = _RANGE.fullmatch(braced)
    if span is None:
        return braced.split(",")
    first, last = span.groups()
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _index(path: Path) -> list[_Sample]:
    """The samples of one shard. Where a picture has both, KEY.txt counts and not KEY.json."""
    images: dict[str, tarfile.TarInfo] = {}
    captions: dict[str, dict[str, object]] = {".txt": {}, ".json": {}}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                key, ending = _split_name(member.name)
                if ending in EXTENSIONS and member.isfile():
                    images[key] = member
                elif ending in captions and (file := shard.extractfile(member)):
                    where = f"{path}: {member.name}"
                    captions[ending][key] = _read_caption(file.read(), ending, where)
    except tarfile.TarError as error:
        raise ValueError(f"{path} cannot be read as an uncompressed tar ({error})") from error
    if not images:
        raise ValueError(f"{path} holds no image: pack KEY.jpg with KEY.txt or KEY.json")
    chosen = captions[".json"] | captions[".txt"]
    return [
        _Sample(
            member.name,
            member.offset_data,
            member.size,
            clean_captions(chosen.get(key), f"{path}: {member.name}"),
        )
        for key, member in images.items()
    ]


def _split_name(name: str) -> tuple[str, str]:
    """Key and ending: WebDataset splits at the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    stem, dot, ending = file.partition(".")
    return folder + slash + stem, (dot + ending).lower()


def _read_caption(content: bytes, ending: str, where: str) -> object:
    """What the file says, or None where its JSON has no caption."""
    try:
        text = content.decode()
        value = text if ending == ".txt" else parse_json(text, "the text")
    except ValueError as error:
        raise ValueError(f"{where} cannot be read ({error}): mend or delete it") from error
    if isinstance(value, dict):
        value = next((value[field] for field in CAPTION_FIELDS if field in value), None)
    return value
