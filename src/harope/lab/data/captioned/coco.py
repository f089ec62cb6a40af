"""MS-COCO: images with several captions each (Chen et al. 2015, arXiv:1504.00325)."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harope.lab.data.captioned.base import (
    CaptionedFilesDataset,
    check_files_exist,
    clean_captions,
)
from harope.lab.data.dataset import ImageDataConfig
from harope.lab.data.image_io import find_images


@dataclass(frozen=True, kw_only=True)
class CocoDataConfig(ImageDataConfig):
    """Folder of COCO's images and the JSON file of their captions."""

    kind: Literal["coco"] = "coco"
    root: str
    """Folder of the images, such as `train2014`."""
    annotations: str
    """JSON file of the captions, such as `annotations/captions_train2014.json`."""


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
    try:
        items = _read(json.loads(path.read_bytes()), path)
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not a COCO caption file ({error!r}): pass a captions_*.json"
        ) from error
    present = {os.fsdecode(name) for name in find_images(root)}
    check_files_exist((name for name, _ in items), present, path, root)
    return CaptionedFilesDataset(root, items, config.image_size, seed)


def _read(values: dict[str, Any], path: Path) -> list[tuple[str, list[str]]]:
    captions: dict[int, list[str]] = {}
    for annotation in values["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    items = [
        (
            image["file_name"],
            clean_captions(captions.get(image["id"]), f"{path}: {image['file_name']}"),
        )
        for image in values["images"]
    ]
    if not items:
        raise ValueError(f"{path} lists no images: pass a captions_*.json")
    return items
