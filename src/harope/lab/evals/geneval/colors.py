"""Colour classification with CLIP (Radford et al. 2021, arXiv 2103.00020), from transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from harope.lab.evals.geneval.rules import COLORS, Detection
from harope.lab.evals.local_models import (
    describe_model,
    load_component,
    load_model,
    read_model_type,
)

OPTION = "--clip"
GREY = 0x99
"""Grey level that replaces the background outside an object's mask."""
BATCH = 16
"""Objects per forward pass."""


class CLIPColors:
    """Zero-shot colour classifier with a local CLIP model, such as clip-vit-large-patch14.

    As in GenEval, a colour is the mean of three prompts' normalised embeddings, and an object is
    the crop of its box, grey outside its mask.

    Args:
        folder: CLIP model with its processor.
        device: Device to run it on.

    Raises:
        ValueError: If the folder contains another model or is incomplete.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        read_model_type(folder, {"clip": "CLIP"}, OPTION)
        from transformers import AutoModel, AutoProcessor

        self._device = device
        self._prepare = load_component(AutoProcessor, folder, OPTION)
        self._model = load_model(AutoModel, folder, OPTION).to(device)
        self._classifiers: dict[str, Float[Tensor, "colors dim"]] = {}
        self.info = describe_model(self._model, folder, "CLIP ViT-L/14 of open_clip")

    @torch.no_grad()
    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], objects: Sequence[Detection], name: str
    ) -> list[str]:
        if name not in self._classifiers:
            self._classifiers[name] = self._classifier(name)
        colors: list[str] = []
        for start in range(0, len(objects), BATCH):
            crops = [crop_object(image, item) for item in objects[start : start + BATCH]]
            similarity = self._embed_images(crops) @ self._classifiers[name].T
            colors += [COLORS[index] for index in similarity.argmax(1).tolist()]
        return colors

    def _classifier(self, name: str) -> Float[Tensor, "colors dim"]:
        means = [self._embed_texts(color_prompts(color, name)).mean(0) for color in COLORS]
        return F.normalize(torch.stack(means), dim=-1)

    def _embed_texts(self, texts: list[str]) -> Float[Tensor, "batch dim"]:
        tokens = self._prepare(text=texts, return_tensors="pt", padding=True, truncation=True)
        return _normalised(self._model.get_text_features(**tokens.to(self._device)))

    def _embed_images(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    ) -> Float[Tensor, "batch dim"]:
        inputs = self._prepare(
            images=list(images), return_tensors="pt", input_data_format="channels_last"
        )
        return _normalised(self._model.get_image_features(**inputs.to(self._device)))


def color_prompts(color: str, name: str) -> list[str]:
    """List the texts whose mean embedding represents the colour of an object class.

    Args:
        color: Name of the colour.
        name: Name of the class.

    Returns:
        GenEval's three texts.
    """
    return [
        f"a photo of a {color} {name}",
        f"a photo of a {color}-colored {name}",
        f"a photo of a {color} object",
    ]


def crop_object(
    image: UInt8[np.ndarray, "height width 3"], detection: Detection
) -> UInt8[np.ndarray, "crop_height crop_width 3"]:
    """Crop an image to an object's box and paint everything outside its mask grey.

    Args:
        image: RGB image.
        detection: Object in it, with a box in pixels.

    Returns:
        The crop, RGB.
    """
    left, top, right, bottom = (round(edge) for edge in detection.box)
    crop = image[top:bottom, left:right]
    if detection.mask is None:
        return crop
    inside = detection.mask[top:bottom, left:right, None]
    return np.where(inside, crop, np.uint8(GREY))


def _normalised(features: Any) -> Float[Tensor, "batch dim"]:
    # transformers 4 returns a tensor here, transformers 5 an output object.
    tensor = features if isinstance(features, Tensor) else features.pooler_output
    return F.normalize(tensor.float(), dim=-1)
