"""MS-COCO: pictures with several captions each (Chen et al. 2015, arXiv:1504.00325)."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harope.lab.data.captioned.base import (
    CaptionedFilesDataset,
    check_image_size,
    clean_captions,
    require,
)
from harope.lab.data.image_io import find_images


@dataclass(frozen=True, kw_only=True)
class CocoDataConfig:
    """A folder of COCO's pictures and the file of their captions."""

    kind: Literal["coco"] = "coco"
    root: str
    """Folder of the pictures, such as `train2014`."""
    annotations: str
    """Captions in COCO's JSON, such as `annotations/captions_train2014.json`."""
    image_size: int = 256
    """Height and width in pixels of the centre crop."""

    def __post_init__(self) -> None:
        check_image_size(self.image_size)


def open_coco(config: CocoDataConfig, seed: int) -> CaptionedFilesDataset:
    """The pictures in the order of the annotation file, each with all of its captions.

    Raises ValueError naming the file for a picture without a caption or one that is missing.
    """
    root, path = Path(config.root), Path(config.annotations)
    try:
        items = _read(json.loads(path.read_bytes()), path)
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not a file of COCO captions ({error!r}): name captions_*.json"
        ) from error
    present = {os.fsdecode(name) for name in find_images(root)}
    require((name for name, _ in items), present, path, root)
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
        raise ValueError(f"{path} lists no images: name captions_*.json")
    return items
