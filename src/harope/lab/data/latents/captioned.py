"""Latents of captioned images, made beforehand: shards whose labels number lists of captions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.atomic import write_text_atomic
from harope._utils.json_files import parse_json
from harope.lab.data.captioned.base import FiniteCaptionedDataset, clean_captions
from harope.lab.data.dataset import Batch, FiniteLabelledDataset
from harope.lab.data.latents.encode import encode_images
from harope.lab.data.latents.shards import LatentShardDataset
from harope.lab.data.latents.vae import Vae
from harope.lab.data.string_table import StringTable

CAPTIONS_FILE = "captions.jsonl"


@dataclass(frozen=True, kw_only=True)
class CaptionedLatentsDataConfig:
    """Latents and captions that ``harope encode`` wrote."""

    kind: Literal["captioned-latents"] = "captioned-latents"
    root: str
    """Folder with `manifest.json` and `captions.jsonl`."""


class CaptionedLatentsDataset(FiniteCaptionedDataset):
    """Latents of a folder of shards, each with the captions of its image.

    Raises ValueError where the folder is not complete or its captions do not fit its latents.
    """

    def __init__(self, root: str | Path, seed: int = 0):
        self._latents = LatentShardDataset(root)
        self.manifest = self._latents.manifest
        self.shape = self._latents.shape
        path = Path(root) / CAPTIONS_FILE
        self._captions = StringTable(_read_captions(path))
        if len(self._captions) != self._latents.num_classes:
            raise ValueError(
                f"{path} has {len(self._captions)} lines but the latents are of "
                f"{self._latents.num_classes} images: encode them again"
            )
        super().__init__(len(self._latents), seed)

    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch channels height width"]:
        """The latents at these places."""
        return self._latents.items(indices)[0]

    def captions(self, index: int) -> list[str]:
        """All captions of the image whose latent this is."""
        # Two latents share an image where mirrored ones were encoded.
        return self._captions[index // (self.manifest.total // self.manifest.num_classes)]


def encode_captioned(
    source: FiniteCaptionedDataset, vae: Vae, out_dir: str | Path, **options: Any
) -> Path:
    """Write latents and captions of all images of ``source``; returns ``out_dir``.

    ``options`` are those of ``encode_images``, save ``form``. The captions are not encoded: they
    stand in ``captions.jsonl``, one list a line. Raises ValueError where the folder was begun with
    other options or other captions.
    """
    path = Path(out_dir) / CAPTIONS_FILE
    lists = [source.captions(index) for index in range(len(source))]
    if path.exists() and _read_captions(path) != lists:
        raise ValueError(f"{path} has other captions: name another folder")
    _write_captions(lists, path)
    return encode_images(_Numbered(source), vae, out_dir, **options)


class _Numbered(FiniteLabelledDataset):
    """Captioned images whose labels are their places: the lines of their captions."""

    def __init__(self, source: FiniteCaptionedDataset):
        super().__init__(len(source), seed=0)
        self._source = source
        self.shape, self.num_classes = source.shape, len(source)

    def items(self, indices: Sequence[int]) -> Batch:
        """The images at these places, and the places."""
        return self._source.images(indices), torch.as_tensor(indices, dtype=torch.int64)


def _write_captions(lists: list[list[str]], path: Path) -> None:
    lines = (json.dumps(captions, ensure_ascii=False) for captions in lists)
    write_text_atomic(path, "".join(f"{line}\n" for line in lines))


def _read_captions(path: Path) -> list[list[str]]:
    try:
        # Not splitlines: captions may hold other separators that JSON leaves as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
        lists = [parse_json(line, "a line") for line in lines if line]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): encode the images again") from error
    return [clean_captions(value, f"{path} line {i}") for i, value in enumerate(lists, start=1)]
