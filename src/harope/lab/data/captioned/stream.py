"""Captioned images that are read from the network in order, as they are needed: data beyond a disk.

The shards of the data are shuffled in every epoch and read one after another, and each block of
consecutive rows is shuffled. Sample numbers count the rows of this endless sequence, so that a
resumed training sees what an uninterrupted one does. Whoever reads sample n reads all rows up to
it: each process and each of its workers reads the whole stream, and decodes only its own images.
"""

import io
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.field_checks import AT_LEAST_ONE, check_range
from harope._utils.hub import local_files_only
from harope.lab.data.captioned.base import (
    CaptionedBatch,
    CaptionedDataset,
    clean_captions,
    pick_caption,
)
from harope.lab.data.captioned.webdataset import CAPTION_FIELDS, expand_braces
from harope.lab.data.dataset import ImageDataConfig, Shuffle
from harope.lab.data.image_io import read_image

Row: TypeAlias = dict[str, Any]
"""Encoded image and captions."""

_ROWS_AT_ONCE = 64
# Keeps the shuffles of blocks apart from that of shards, which are numbered from 0 as well.
_BLOCK = 1


@dataclass(frozen=True, kw_only=True)
class StreamDataConfig(ImageDataConfig):
    """Dataset that the `datasets` library streams, from the Hugging Face hub or tar shards."""

    kind: Literal["stream"] = "stream"
    root: str
    """Hub id, folder that `load_dataset` reads, or path or URL of tar shards in the WebDataset
    format, which ends in `.tar` and may contain ranges `{00000..00010}` and choices `{a,b}`."""
    subset: str | None = None
    """Name of the configuration, for datasets that have several."""
    split: str = "train"
    """Name of the split."""
    image_column: str = "image"
    """Column of the images; in tar shards the file ending, such as `jpg`."""
    text_column: str = "text"
    """Column of the captions or lists of captions; in tar shards the file ending, `txt` or `json`
    with a field `caption` or `text`."""
    block_size: int = 1000
    """Number of consecutive rows that are shuffled together, and kept in memory as they are stored.
    Larger blocks mix better."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, AT_LEAST_ONE, "block_size")


class CaptionStream(CaptionedDataset):
    """Endless captioned RGB images (3, image_size, image_size) of a `datasets.IterableDataset`.

    Samples are best read in the order of their numbers: an earlier block than the last one is found
    by reading from the beginning.

    Args:
        dataset: Dataset to read.
        config: Columns and sizes.
        seed: Seed of the shuffles and of the choice among captions.
    """

    def __init__(self, dataset: Any, config: StreamDataConfig, seed: int = 0) -> None:
        self._dataset, self._config, self._seed = dataset, config, seed
        self._shards = Shuffle(dataset.num_shards, seed)
        self.shape = (3, config.image_size, config.image_size)
        self._rewind()

    @property
    def identity(self) -> dict[str, Any]:
        return {"shards": self._shards.length, "block_size": self._config.block_size}

    def samples(self, numbers: Sequence[int]) -> CaptionedBatch:
        rows = [self._row(number) for number in numbers]
        images = [self._image(row, number) for row, number in zip(rows, numbers, strict=True)]
        captions = [
            pick_caption(self._captions(row, number), self._seed, number)
            for row, number in zip(rows, numbers, strict=True)
        ]
        return torch.stack(images), captions

    def __getstate__(self) -> dict[str, Any]:
        # Each worker process opens the shards itself.
        return self.__dict__ | {"_rows": None, "_begun": 0, "_block": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._rewind()

    def _rewind(self) -> None:
        self._rows = self._read_rows()
        self._begun = 0
        """Number of blocks read; the last one is kept."""
        self._block: list[Row] = []

    def _row(self, number: int) -> Row:
        block, position = divmod(number, self._config.block_size)
        if block < self._begun - 1:
            self._rewind()
        size = self._config.block_size
        skipped = (block - self._begun) * size
        if skipped > 0:
            deque(islice(self._rows, skipped), maxlen=0)
            self._begun = block
        if block == self._begun:
            rows = list(islice(self._rows, size))
            keys = np.random.PCG64(np.random.SeedSequence((self._seed, block, _BLOCK)))
            self._block = [rows[index] for index in np.argsort(keys.random_raw(size))]
            self._begun = block + 1
        return self._block[position]

    def _read_rows(self) -> Iterator[Row]:
        """Yield all rows of all epochs."""
        shards = self._shards.length
        for epoch in count():
            rows = 0
            for position in range(shards):
                index = self._shards.index(epoch * shards + position)
                shard = self._dataset.shard(num_shards=shards, index=index)
                # Not by `iter(shard)`, which in a worker process leaves out rows for other workers.
                for batch in shard.iter(batch_size=_ROWS_AT_ONCE):
                    values = list(batch.values())
                    rows += len(values[0])
                    yield from (
                        dict(zip(batch, row, strict=True)) for row in zip(*values, strict=True)
                    )
            if not rows:
                raise ValueError(f"{self._config.root} has no rows: choose another split")

    def _image(self, row: Row, number: int) -> Float32[Tensor, "3 height width"]:
        value = row[self._config.image_column] or {"bytes": b"", "path": None}
        file = io.BytesIO(value["bytes"]) if value["bytes"] is not None else value["path"]
        return read_image(file, self.shape[1], name=self._name(number))

    def _captions(self, row: Row, number: int) -> list[str]:
        value = row[self._config.text_column]
        if isinstance(value, dict):
            value = next((value[field] for field in CAPTION_FIELDS if value.get(field)), None)
        return clean_captions(value, self._name(number))

    def _name(self, number: int) -> str:
        return f"sample {number} of the stream {self._config.root}"


def open_stream(config: StreamDataConfig, seed: int) -> CaptionStream:
    """Open the stream that `config` names.

    Args:
        config: Which dataset and columns to read.
        seed: Seed of the shuffles and of the choice among captions.

    Returns:
        The endless dataset.

    Raises:
        ImportError: If `datasets` is not installed.
        ValueError: If the split or a column is missing, or the hub cannot be reached.
    """
    try:
        from datasets import Image, load_dataset
    except ImportError as error:
        raise ImportError(
            f"reading {config.root} requires datasets: pip install harope[hub]"
        ) from error
    if config.root.endswith(".tar"):
        files = {config.split: list(expand_braces(config.root))}
        dataset = load_dataset("webdataset", data_files=files, split=config.split, streaming=True)
    else:
        local_files_only(config.root, repo_type="dataset")
        dataset = load_dataset(config.root, config.subset, split=config.split, streaming=True)
    columns = [config.image_column, config.text_column]
    known = dataset.column_names or list(next(iter(dataset)))
    for column in columns:
        if column not in known:
            raise ValueError(
                f"column {column!r} is not in {config.root}: it has "
                + ", ".join(map(repr, known))
                + ": set image_column and text_column"
            )
    # Decoded by `read_image`, whose errors name the image.
    encoded = dataset.select_columns(columns).cast_column(config.image_column, Image(decode=False))
    return CaptionStream(encoded, config, seed)
