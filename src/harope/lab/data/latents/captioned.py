"""Precomputed latents of captioned images.

The label of a latent is the index of its image, which is the line of its captions in
`captions.jsonl`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.atomic import write_text_atomic
from harope._utils.shards import Workers
from harope._utils.text_files import read_json_lines
from harope.lab.data.captioned.base import FiniteCaptionedDataset, StringTable, clean_captions
from harope.lab.data.dataset import Batch, FiniteLabelledDataset
from harope.lab.data.latents.encode import encode_images
from harope.lab.data.latents.shards import LatentShardDataset
from harope.lab.data.latents.vae import Vae

CAPTIONS_FILE = "captions.jsonl"
"""One JSON list of captions per image, in the order of the images."""


@dataclass(frozen=True, kw_only=True)
class CaptionedLatentsDataConfig:
    """Folder of latents and captions written by `harope encode`."""

    kind: Literal["captioned-latents"] = "captioned-latents"
    root: str
    """Folder with `manifest.json` and `captions.jsonl`."""


class CaptionedLatentsDataset(FiniteCaptionedDataset):
    """Latents of a folder of shards, each with the captions of its image.

    Args:
        root: Folder with `manifest.json` and `captions.jsonl`.
        seed: Seed of the shuffles and of the choice among captions.

    Raises:
        ValueError: If the folder is incomplete or damaged, or the number of captions does not
            match the latents.
    """

    def __init__(self, root: str | Path, seed: int = 0):
        self._latents = LatentShardDataset(root)
        self.manifest = self._latents.manifest
        self.shape = self._latents.shape
        path = Path(root) / CAPTIONS_FILE
        self._captions = StringTable(_read_captions(path))
        if len(self._captions) != self._latents.num_classes:
            raise ValueError(
                f"{path} has captions of {len(self._captions)} images but the latents are of "
                f"{self._latents.num_classes} images: encode the images again"
            )
        super().__init__(len(self._latents), seed)

    def files_digest(self, *, times: bool = False) -> str:
        return self._latents.files_digest(times=times)

    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch channels height width"]:
        return self._latents.items(indices)[0]

    def captions(self, index: int) -> list[str]:
        # With flips, an image has several latents.
        return self._captions[index // (self.manifest.total // self.manifest.num_classes)]


def encode_captioned(
    dataset: FiniteCaptionedDataset,
    vae: Vae,
    out_dir: str | Path,
    *,
    workers: Workers | None = None,
    **options: Any,
) -> Path:
    """Write the latents and captions of all images of a dataset.

    The captions are stored as text, in `captions.jsonl`.

    Args:
        dataset: Images and captions to write.
        vae: Autoencoder of the latents.
        out_dir: Folder to write to. An interrupted run is resumed.
        workers: This process among those that encode.
        options: Options of `encode_images` other than `form`.

    Returns:
        `out_dir`.

    Raises:
        ValueError: If the folder contains other captions, or as `encode_images` says.
    """
    path = Path(out_dir) / CAPTIONS_FILE
    lists = [dataset.captions(index) for index in range(len(dataset))]
    if path.exists() and _read_captions(path) != lists:
        raise ValueError(f"{path} contains other captions: choose another folder")
    # Written last, so that a refused encoding leaves the folder as it was.
    encode_images(_IndexedImages(dataset), vae, out_dir, workers=workers, **options)
    if workers is None or workers.rank == 0:
        _write_captions(lists, path)
    return Path(out_dir)


class _IndexedImages(FiniteLabelledDataset):
    """Images of a captioned dataset, labelled with their indices."""

    def __init__(self, dataset: FiniteCaptionedDataset):
        super().__init__(len(dataset), seed=0)
        self._dataset = dataset
        self.shape, self.num_classes = dataset.shape, len(dataset)

    @cached_property
    def identity(self) -> dict[str, Any]:
        return self._dataset.identity

    def files_digest(self, *, times: bool = False) -> str | None:
        return self._dataset.files_digest(times=times)

    def items(self, indices: Sequence[int]) -> Batch:
        return self._dataset.images(indices), torch.as_tensor(indices, dtype=torch.int64)


def _write_captions(lists: list[list[str]], path: Path) -> None:
    lines = (json.dumps(captions, ensure_ascii=False) for captions in lists)
    write_text_atomic(path, "".join(f"{line}\n" for line in lines))


def _read_captions(path: Path) -> list[list[str]]:
    try:
        return [clean_captions(value, where) for where, value in read_json_lines(path)]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): encode the images again") from error
