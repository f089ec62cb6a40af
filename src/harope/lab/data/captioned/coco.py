"""MS-COCO: images with several captions each (Chen et al. 2015, arXiv:1504.00325)."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harope._utils.json_files import load_json, validate
from harope.lab.data.captioned.base import (
    CaptionedFilesDataset,
    clean_captions,
    match_files,
)
from harope.lab.data.dataset import ImageFilesDataConfig
from harope.lab.data.image_files import find_images
from harope.lab.data.left_out import LeftOut


@dataclass(frozen=True, kw_only=True)
class CocoDataConfig(ImageFilesDataConfig):
    """Folder of COCO's images and the JSON file of their captions."""

    kind: Literal["coco"] = "coco"
    root: str
    """Folder of the images, such as `train2014`."""
    annotations: str
    """JSON file of the captions, such as `annotations/captions_train2014.json`."""


@dataclass(frozen=True)
class _Image:
    id: int
    file_name: str


@dataclass(frozen=True)
class _Annotation:
    image_id: int
    caption: str


@dataclass(frozen=True)
class _CaptionFile:
    """Fields of a `captions_*.json` that are read."""

    images: list[_Image]
    annotations: list[_Annotation]


def open_coco(config: CocoDataConfig, seed: int) -> CaptionedFilesDataset:
    """Open COCO's images in the order of the annotation file, each with all its captions.

    Args:
        config: Where the images and captions are.
        seed: Seed of the shuffles and of the choice among captions.

    Returns:
        The dataset, with all captions of each image.

    Raises:
        ValueError: If the file is not a COCO caption file, or an image or its caption is missing.
        FileNotFoundError: If the annotation file or the image folder does not exist.
    """
    root, path = Path(config.root), Path(config.annotations)
    left_out = LeftOut(path)
    items = _read(path, left_out)
    present = [os.fsdecode(name) for name in find_images(root, left_out)]
    match_files([name for name, _ in items], present, path, root, left_out)
    left_out.report(len(items), config.max_left_out)
    return CaptionedFilesDataset(root, items, config.image_size, seed)


def _read(path: Path, left_out: LeftOut) -> list[tuple[str, list[str]]]:
    try:
        values = validate(load_json(path), _CaptionFile, "the file")
    except ValueError as error:
        raise ValueError(
            f"{path} is not a COCO caption file ({error}): pass a captions_*.json"
        ) from error
    if not values.images:
        raise ValueError(f"{path} lists no images: pass a captions_*.json")
    captions: dict[int, list[str]] = {image.id: [] for image in values.images}
    for annotation in values.annotations:
        if annotation.image_id in captions:
            captions[annotation.image_id].append(annotation.caption)
        else:
            left_out.add("captions of images that the file does not list", annotation.caption)
    return [
        (image.file_name, clean_captions(captions[image.id], f"{path}: {image.file_name}"))
        for image in values.images
    ]
