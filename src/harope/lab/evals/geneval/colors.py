"""Colours of objects by CLIP (Radford et al. 2021, arXiv 2103.00020), from transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from harope.lab.evals.geneval.rules import COLORS, Detection
from harope.lab.evals.local_models import load_component, load_model, model_type, used

OPTION = "--clip"
GREY = 0x99
"""What the background outside an object's mask becomes."""
BATCH = 16


class CLIPColors:
    """Zero-shot colours by a CLIP model in a local folder, such as clip-vit-large-patch14.

    GenEval's: per colour the mean of three sentences' normalised embeddings; of the picture the
    object's box, grey outside its mask. Raises ValueError for a model of another type.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        model_type(folder, {"clip": "CLIP"}, OPTION)
        from transformers import AutoModel, AutoProcessor

        self._device = device
        self._prepare = load_component(AutoProcessor, folder, OPTION)
        self._model = load_model(AutoModel, folder, OPTION).to(device)
        self._classifiers: dict[str, Float[Tensor, "colors dim"]] = {}
        self.used = used(self._model, folder, "CLIP ViT-L/14 of open_clip")

    @torch.no_grad()
    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], objects: Sequence[Detection], name: str
    ) -> list[str]:
        """The likeliest of COLORS for each object."""
        if name not in self._classifiers:
            self._classifiers[name] = self._classifier(name)
        found: list[str] = []
        for start in range(0, len(objects), BATCH):
            crops = [crop_object(image, one) for one in objects[start : start + BATCH]]
            likeness = self._pictures(crops) @ self._classifiers[name].T
            found += [COLORS[index] for index in likeness.argmax(1).tolist()]
        return found

    def _classifier(self, name: str) -> Float[Tensor, "colors dim"]:
        means = [self._texts(sentences(color, name)).mean(0) for color in COLORS]
        return F.normalize(torch.stack(means), dim=-1)

    def _texts(self, texts: list[str]) -> Float[Tensor, "batch dim"]:
        tokens = self._prepare(text=texts, return_tensors="pt", padding=True, truncation=True)
        return _normalised(self._model.get_text_features(**tokens.to(self._device)))

    def _pictures(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float[Tensor, "batch dim"]:
        inputs = self._prepare(
            images=list(images), return_tensors="pt", input_data_format="channels_last"
        )
        return _normalised(self._model.get_image_features(**inputs.to(self._device)))


def sentences(color: str, name: str) -> list[str]:
    """What CLIP compares an object of a class with."""
    return [
        f"a photo of a {color} {name}",
        f"a photo of a {color}-colored {name}",
        f"a photo of a {color} object",
    ]


def crop_object(
    image: UInt8[np.ndarray, "height width 3"], one: Detection
) -> UInt8[np.ndarray, "crop_height crop_width 3"]:
    """The object's box of a picture that is grey outside its mask."""
    left, top, right, bottom = (round(edge) for edge in one.box)
    crop = image[top:bottom, left:right]
    if one.mask is None:
        return crop
    inside = one.mask[top:bottom, left:right, None]
    return np.where(inside, crop, np.uint8(GREY))


def _normalised(features: Any) -> Float[Tensor, "batch dim"]:
    # transformers 5 wraps what 4 gave as a tensor.
    tensor = features if isinstance(features, Tensor) else features.pooler_output
    return F.normalize(tensor.float(), dim=-1)
