"""Captioned images in tar shards in the WebDataset format: KEY.jpg next to KEY.txt."""

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
from harope.lab.data.captioned.base import FiniteCaptionedDataset, StringTable, clean_captions
from harope.lab.data.dataset import ImageDataConfig
from harope.lab.data.image_io import EXTENSIONS, read_image

CAPTION_FIELDS = ("caption", "text")
"""Fields of a KEY.json that may contain the caption; the first one found is used."""

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class WebDatasetDataConfig(ImageDataConfig):
    """Tar shards of images and captions, such as BLIP3o-60k."""

    kind: Literal["webdataset"] = "webdataset"
    root: str
    """Path of the shards; may contain ranges `{00000..00010}`, choices `{a,b}`, `*` and `?`."""


class _Sample(NamedTuple):
    """Member name, byte range within the shard, and captions of one image."""

    name: str
    offset: int
    size: int
    captions: list[str]


class TarShardDataset(FiniteCaptionedDataset):
    """Captioned RGB images (3, image_size, image_size) of tar shards, in the order of the shards.

    Opening reads the headers of all shards once and stores the offset of each image, so that
    reading an image takes one seek. Reading raises ValueError for an image that cannot be decoded.

    Args:
        pattern: Path of the shards, see `find_shards`.
        image_size: Height and width in pixels of the centre crop.
        seed: Seed of the shuffles and of the choice among captions.

    Raises:
        ValueError: If a shard is missing or damaged, or an image has no caption; the message
            names the shard and the member.
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
        return torch.stack([self._image(index) for index in indices])

    def captions(self, index: int) -> list[str]:
        return self._captions[index]

    def _image(self, index: int) -> Float32[Tensor, "3 height width"]:
        path = self._shards[self._shard_of[index]]
        offset, size = self._spans[index]
        with open(path, "rb") as shard:
            shard.seek(offset)
            member = io.BytesIO(shard.read(size))
        return read_image(member, self.shape[1], name=f"{path}: {self._names[index][0]}")


def find_shards(pattern: str) -> list[Path]:
    """Return the files that a pattern describes, in the pattern's order.

    Args:
        pattern: Path that may contain ranges `{00000..00010}`, choices `{a,b}`, `*` and `?`.

    Returns:
        Paths of the shards.

    Raises:
        ValueError: If a shard is missing or nothing matches the pattern.
    """
    shards: list[Path] = []
    for name in _expand(pattern):
        paths = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        missing = [path for path in paths if not Path(path).is_file()]
        if missing or not paths:
            raise ValueError(
                f"shard {(missing or [name])[0]} of {pattern!r} does not exist: add the file or "
                f"correct the pattern"
            )
        shards += map(Path, paths)
    return shards


def _expand(pattern: str) -> Iterator[str]:
    """Yield the pattern with its braces expanded; ranges keep leading zeros."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    return map("".join, product(*choices))


def _choices(braced: str) -> list[str]:
    span = _RANGE.fullmatch(braced)
    if span is None:
        return braced.split(",")
    first, last = span.groups()
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _index(path: Path) -> list[_Sample]:
    """List the images of one shard. KEY.txt takes precedence over KEY.json."""
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
        raise ValueError(
            f"{path} cannot be read as an uncompressed tar file ({error}): decompress it or "
            f"download it again"
        ) from error
    if not images:
        raise ValueError(f"{path} contains no images: pack KEY.jpg with KEY.txt or KEY.json")
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
    """Split a member name into key and extension at the first dot, as WebDataset does."""
    folder, slash, file = name.rpartition("/")
    stem, dot, ending = file.partition(".")
    return folder + slash + stem, (dot + ending).lower()


def _read_caption(content: bytes, ending: str, where: str) -> object:
    """Return the captions in a member file, or None if its JSON has none."""
    try:
        text = content.decode()
        value = text if ending == ".txt" else parse_json(text, "the text")
    except ValueError as error:
        raise ValueError(f"{where} cannot be read ({error}): repair or delete it") from error
    if isinstance(value, dict):
        value = next((value[field] for field in CAPTION_FIELDS if field in value), None)
    return value
