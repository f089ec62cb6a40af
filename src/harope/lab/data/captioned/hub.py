"""Captioned pictures of the `datasets` library: by hub id, or a folder it saved or can load."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float32
from torch import Tensor

from harope.lab.data.captioned.base import FiniteCaptionedDataset, check_image_size, clean_captions
from harope.lab.data.image_io import read_image_on_white
from harope.lab.data.string_table import StringTable

HubDataset: TypeAlias = Any
"""A `datasets.Dataset`, whose library is not loaded here."""


@dataclass(frozen=True, kw_only=True)
class HubDataConfig:
    """A data set of the hub, or of a folder."""

    kind: Literal["hub"] = "hub"
    root: str
    """Hub id, or a folder that `load_dataset` reads or `save_to_disk` wrote."""
    subset: str | None = None
    """Name of the configuration where the data set has several."""
    split: str = "train"
    """Which split."""
    image_column: str = "image"
    """Column of the pictures."""
    text_column: str = "text"
    """Column of the captions, or of lists of captions."""
    image_size: int = 256
    """Height and width in pixels of the centre crop."""

    def __post_init__(self) -> None:
        check_image_size(self.image_size)


class HubDataset(FiniteCaptionedDataset):
    """RGB images (3, image_size, image_size) of a `datasets.Dataset`, with captions, in its order.

    Raises ValueError naming the row for a missing caption, and on drawing for a picture that
    cannot be read.
    """

    def __init__(
        self,
        dataset: HubDataset,
        image_size: int,
        seed: int = 0,
        image_column: str = "image",
        text_column: str = "text",
    ):
        from datasets import Image

        for column in (image_column, text_column):
            if column not in dataset.column_names:
                raise ValueError(
                    f"column {column!r} is not in the data set: it has "
                    + ", ".join(map(repr, dataset.column_names))
                )
        self._captions = StringTable(
            clean_captions(value, f"row {row} of the data set")
            for row, value in enumerate(dataset.select_columns(text_column)[text_column])
        )
        pictures = dataset.select_columns(image_column)
        # Undecoded, so that a damaged file is named as everywhere else.
        self._pictures = pictures.cast_column(image_column, Image(decode=False))
        self._column = image_column
        self.shape = (3, image_size, image_size)
        super().__init__(len(self._captions), seed)

    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch 3 height width"]:
        """The images of these rows."""
        return torch.stack([self._image(index) for index in indices])

    def captions(self, index: int) -> list[str]:
        """All captions of the image of this row."""
        return self._captions[index]

    def _image(self, index: int) -> Float32[Tensor, "3 height width"]:
        value = self._pictures[int(index)][self._column] or {"bytes": b"", "path": None}
        file = io.BytesIO(value["bytes"]) if value["bytes"] is not None else value["path"]
        name = f"row {index} of the data set" + (f", {value['path']}," if value["path"] else "")
        return read_image_on_white(file, self.shape[1], name=name)


def open_hub(config: HubDataConfig, seed: int) -> HubDataset:
    """Load the split that ``config`` names; ImportError without `datasets`."""
    dataset = load_split(config.root, config.subset, config.split)
    return HubDataset(dataset, config.image_size, seed, config.image_column, config.text_column)


def load_split(root: str, subset: str | None, split: str) -> HubDataset:
    """One split of a data set of the hub or a folder. ValueError where there is none."""
    try:
        from datasets import DatasetDict, load_dataset, load_from_disk
    except ImportError as error:
        raise ImportError(f"reading {root} needs datasets: pip install harope[hub]") from error
    if not _is_saved(Path(root)):
        return load_dataset(root, subset, split=split)
    saved = load_from_disk(root)
    if not isinstance(saved, DatasetDict):
        return saved
    if split not in saved:
        raise ValueError(f"split {split!r} is not in {root}: it has {', '.join(saved)}")
    return saved[split]


def _is_saved(root: Path) -> bool:
    return any((root / name).is_file() for name in ("state.json", "dataset_dict.json"))
