"""Captioned images read by the `datasets` library, from the Hugging Face hub or a folder."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.hub import local_files_only
from harope.lab.data.captioned.base import FiniteCaptionedDataset, StringTable, clean_captions
from harope.lab.data.dataset import ImageDataConfig
from harope.lab.data.image_io import read_image

HuggingFaceDataset: TypeAlias = Any
"""A `datasets.Dataset`; the library is imported on use only."""


@dataclass(frozen=True, kw_only=True)
class HubDataConfig(ImageDataConfig):
    """Dataset of the Hugging Face hub, or of a folder that `datasets` can read."""

    kind: Literal["hub"] = "hub"
    root: str
    """Hub id, or a folder readable by `load_dataset` or written by `save_to_disk`."""
    subset: str | None = None
    """Name of the configuration, for datasets that have several."""
    split: str = "train"
    """Name of the split."""
    image_column: str = "image"
    """Column of the images."""
    text_column: str = "text"
    """Column of the captions or lists of captions."""


class HubDataset(FiniteCaptionedDataset):
    """Captioned RGB images (3, image_size, image_size) of a `datasets.Dataset`, in its order.

    Reading raises ValueError for an image that cannot be decoded.

    Args:
        dataset: Dataset to read.
        image_size: Height and width in pixels of the centre crop.
        seed: Seed of the shuffles and of the choice among captions.
        image_column: Column of the images.
        text_column: Column of the captions or lists of captions.

    Raises:
        ValueError: If a column or a caption is missing; the message names the row.
    """

    def __init__(
        self,
        dataset: HuggingFaceDataset,
        image_size: int,
        seed: int = 0,
        image_column: str = "image",
        text_column: str = "text",
    ):
        from datasets import Image

        for column in (image_column, text_column):
            if column not in dataset.column_names:
                raise ValueError(
                    f"column {column!r} is not in the dataset: it has "
                    + ", ".join(map(repr, dataset.column_names))
                )
        self._captions = StringTable(
            clean_captions(value, f"row {row} of the dataset")
            for row, value in enumerate(dataset.select_columns(text_column)[text_column])
        )
        images = dataset.select_columns(image_column)
        # Decoded by `read_image`, whose errors name the image.
        self._encoded = images.cast_column(image_column, Image(decode=False))
        self._column = image_column
        self.shape = (3, image_size, image_size)
        super().__init__(len(self._captions), seed)

    def files_digest(self, *, times: bool = False) -> str:
        # The fingerprint by which `datasets` itself tells tables apart has no public name.
        return str(self._encoded._fingerprint)

    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch 3 height width"]:
        return torch.stack([self._image(index) for index in indices])

    def captions(self, index: int) -> list[str]:
        return self._captions[index]

    def _image(self, index: int) -> Float32[Tensor, "3 height width"]:
        value = self._encoded[int(index)][self._column] or {"bytes": b"", "path": None}
        file = io.BytesIO(value["bytes"]) if value["bytes"] is not None else value["path"]
        name = f"row {index} of the dataset" + (f", {value['path']}," if value["path"] else "")
        return read_image(file, self.shape[1], name=name)


def open_hub(config: HubDataConfig, seed: int) -> HubDataset:
    """Open the split of a dataset that `config` names.

    Args:
        config: Which dataset and columns to read.
        seed: Seed of the shuffles and of the choice among captions.

    Returns:
        The dataset, in the order of its rows.

    Raises:
        ImportError: If `datasets` is not installed.
        ValueError: If the split, a column or a caption is missing.
    """
    dataset = load_split(config.root, config.subset, config.split)
    return HubDataset(dataset, config.image_size, seed, config.image_column, config.text_column)


def load_split(root: str, subset: str | None, split: str) -> HuggingFaceDataset:
    """Load one split of a dataset from the hub or a folder.

    Args:
        root: Hub id, or a folder readable by `load_dataset` or written by `save_to_disk`.
        subset: Name of the configuration; None for the default.
        split: Name of the split.

    Returns:
        A `datasets.Dataset`.

    Raises:
        ImportError: If `datasets` is not installed.
        ValueError: If there is no such dataset or split, or the hub cannot be reached.
    """
    try:
        from datasets import DatasetDict, load_dataset, load_from_disk
        from datasets.config import HF_DATASETS_CACHE
    except ImportError as error:
        raise ImportError(f"reading {root} requires datasets: pip install harope[hub]") from error
    if not _is_saved(Path(root)):
        # Without the check, an id is looked up for half a minute if the Hub cannot be reached.
        if not (Path(HF_DATASETS_CACHE) / root.replace("/", "___")).exists():
            local_files_only(root, repo_type="dataset")
        return load_dataset(root, subset, split=split)
    saved = load_from_disk(root)
    if not isinstance(saved, DatasetDict):
        return saved
    if split not in saved:
        raise ValueError(f"{root} has no split {split!r}: it has {', '.join(saved)}")
    return saved[split]


def _is_saved(root: Path) -> bool:
    return any((root / name).is_file() for name in ("state.json", "dataset_dict.json"))
