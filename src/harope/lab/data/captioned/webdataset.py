"""Captioned images in tar shards in the WebDataset format: KEY.jpg next to KEY.txt."""

import glob
import io
import math
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

from harope._utils.digests import paths_digest
from harope._utils.json_files import parse_json
from harope._utils.text_files import decode_text
from harope.lab.data.captioned.base import (
    MAX_CAPTION_BYTES,
    FiniteCaptionedDataset,
    StringTable,
    clean_captions,
)
from harope.lab.data.dataset import ImageFilesDataConfig
from harope.lab.data.image_files import EXTENSIONS, is_other_image
from harope.lab.data.image_io import read_image
from harope.lab.data.left_out import DEFAULT_MAX_LEFT_OUT, LeftOut

CAPTION_FIELDS = ("caption", "text")
"""Fields of a KEY.json that may contain the caption; the first one found is used."""

MAX_SHARDS = 100_000
"""Largest number of shards of a pattern."""

_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


@dataclass(frozen=True, kw_only=True)
class WebDatasetDataConfig(ImageFilesDataConfig):
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
        max_left_out: Largest fraction of the images and captions that may be left out, because
            their keys contain dots or repeat, a caption has no image, or the format is not read.

    Raises:
        ValueError: If a shard is missing or damaged, an image has no caption, or more is left out;
            the message names the shard and the member.
    """

    def __init__(
        self,
        pattern: str,
        image_size: int,
        seed: int = 0,
        max_left_out: float = DEFAULT_MAX_LEFT_OUT,
    ):
        left_out = LeftOut(pattern)
        self._shards = find_shards(pattern)
        indexed = [_ShardIndex(path, left_out).samples() for path in self._shards]
        samples = [sample for shard in indexed for sample in shard]
        self._shard_of = np.repeat(np.arange(len(indexed)), [len(shard) for shard in indexed])
        self._spans = np.array([(s.offset, s.size) for s in samples], dtype=np.int64)
        self._names = StringTable([sample.name] for sample in samples)
        self._captions = StringTable(sample.captions for sample in samples)
        left_out.report(len(samples), max_left_out)
        self.shape = (3, image_size, image_size)
        super().__init__(len(samples), seed)

    def files_digest(self, *, times: bool = False) -> str:
        return paths_digest(self._shards, times=times)

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
        ValueError: If a shard is missing, nothing matches the pattern, or it describes more than
            100,000 shards.
    """
    shards: list[Path] = []
    for name in expand_braces(pattern):
        paths = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        missing = [path for path in paths if not Path(path).is_file()]
        if missing or not paths:
            raise ValueError(
                f"shard {(missing or [name])[0]} of {pattern!r} does not exist: add the file or "
                f"correct the pattern"
            )
        shards += map(Path, paths)
    return shards


def expand_braces(pattern: str) -> Iterator[str]:
    """Expand the braces of a pattern.

    Args:
        pattern: Path or URL that may contain ranges `{00000..00010}`, which keep their leading
            zeros, and choices `{a,b}`.

    Returns:
        The names, in order.

    Raises:
        ValueError: If there are more than 100,000 names.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    count = math.prod(len(choice) for choice in choices)
    if not 1 <= count <= MAX_SHARDS:
        raise ValueError(
            f"pattern {pattern!r} describes {count:,} shards: it must be from 1 to {MAX_SHARDS:,}"
        )
    return map("".join, product(*choices))


def _choices(braced: str) -> Sequence[str]:
    span = _RANGE.fullmatch(braced)
    if span is None:
        return braced.split(",")
    first, last = span.groups()
    numbers = range(int(first), int(last) + 1)
    if len(numbers) > MAX_SHARDS:
        raise ValueError(
            f"range {{{braced}}} has {len(numbers):,} numbers: it must be at most {MAX_SHARDS:,}"
        )
    return [str(number).zfill(len(first)) for number in numbers]


class _ShardIndex:
    """Images and captions of one shard, by key.

    Args:
        path: Path of the shard.
        left_out: Counts the members that look like images or captions and are not taken.

    Raises:
        ValueError: If the shard is damaged, or has no images.
    """

    def __init__(self, path: Path, left_out: LeftOut):
        self._path, self._left_out = path, left_out
        self._images: dict[str, tarfile.TarInfo] = {}
        self._captions: dict[str, dict[str, object]] = {".txt": {}, ".json": {}}
        try:
            with tarfile.open(path, "r:") as shard:
                for member in shard:
                    if member.isfile() and not member.name.rpartition("/")[2].startswith("."):
                        self._add(shard, member)
        except tarfile.TarError as error:
            raise ValueError(
                f"{path} cannot be read as an uncompressed tar file ({error}): decompress it or "
                f"download it again"
            ) from error
        if not self._images:
            raise ValueError(f"{path} contains no images: pack KEY.jpg with KEY.txt or KEY.json")
        for key in sorted({*self._captions[".txt"], *self._captions[".json"]} - {*self._images}):
            left_out.add("captions without an image", f"{path}: {key}")

    def samples(self) -> list[_Sample]:
        """Return the images with their captions. KEY.txt takes precedence over KEY.json."""
        chosen = self._captions[".json"] | self._captions[".txt"]
        return [
            _Sample(
                member.name,
                member.offset_data,
                member.size,
                clean_captions(chosen.get(key), f"{self._path}: {member.name}"),
            )
            for key, member in self._images.items()
        ]

    def _add(self, shard: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        key, ending = _split_name(member.name)
        where = f"{self._path}: {member.name}"
        if ending in EXTENSIONS:
            if key in self._images:
                self._left_out.add("further images of the same key", where)
            else:
                self._check_size(member, where)
                self._images[key] = member
        elif ending in self._captions:
            if key in self._captions[ending]:
                self._left_out.add("further captions of the same key", where)
            else:
                self._captions[ending][key] = self._read_caption(shard, member, ending, where)
        elif ending.endswith(EXTENSIONS):
            self._left_out.add("images with dots in their keys", where)
        elif is_other_image(member.name):
            self._left_out.add("images in formats that are not read", where)

    def _check_size(self, member: tarfile.TarInfo, where: str) -> None:
        end = member.offset_data + member.size
        if member.issparse() or end > self._path.stat().st_size:
            raise ValueError(
                f"{where} is said to have {member.size:,} bytes, which {self._path} does not "
                f"contain: download it again"
            )

    def _read_caption(
        self, shard: tarfile.TarFile, member: tarfile.TarInfo, ending: str, where: str
    ) -> object:
        """Return the captions in a member file, or None if its JSON has none."""
        self._check_size(member, where)
        if member.size > MAX_CAPTION_BYTES:
            raise ValueError(
                f"{where} has {member.size:,} bytes, but captions have at most "
                f"{MAX_CAPTION_BYTES:,}: remove it"
            )
        file = shard.extractfile(member)
        assert file is not None
        try:
            text = decode_text(file.read(), "the text")
            value = text if ending == ".txt" else parse_json(text, "the text")
        except ValueError as error:
            raise ValueError(f"{where} cannot be read ({error}): repair or delete it") from error
        if isinstance(value, dict):
            value = next((value[field] for field in CAPTION_FIELDS if field in value), None)
        return value


def _split_name(name: str) -> tuple[str, str]:
    """Split a member name into key and extension at the first dot, as WebDataset does."""
    folder, slash, file = name.rpartition("/")
    stem, dot, ending = file.partition(".")
    return folder + slash + stem, (dot + ending).lower()
