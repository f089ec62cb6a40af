"""Objects by Mask2Former (Cheng et al. 2022, arXiv 2112.01527), from transformers.

The scores, masks and boxes are made as mmdetection makes them (`maskformer_fusion_head.py`), at the
picture's own size; transformers' own post-processing goes by way of 384 x 384 masks.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from harope.lab.evals.geneval.class_names import class_names
from harope.lab.evals.geneval.rules import Detection
from harope.lab.evals.local_models import load_component, load_model, model_type, used

OPTION = "--detector"
MAX_PAIRS = 100
"""Pairs of a mask and a class that are looked at, the most likely ones."""


class Mask2FormerDetector:
    """Instances by a Mask2Former in a local folder, such as mask2former-swin-small-coco-instance.

    Raises ValueError for a model of another type, and for one that lacks one of GenEval's classes.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        model_type(folder, {"mask2former": "Mask2Former, trained on COCO's instances"}, OPTION)
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForUniversalSegmentation

        self._device = device
        # Weights last: they take longest.
        labels = load_component(AutoConfig, folder, OPTION).id2label
        self._names = class_names(labels, f"{OPTION} {folder}")
        self._prepare = load_component(AutoImageProcessor, folder, OPTION)
        self._model = load_model(AutoModelForUniversalSegmentation, folder, OPTION).to(device)
        self.used = used(self._model, folder, "Mask2Former swin-s of mmdetection")

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], min_score: float
    ) -> list[list[Detection]]:
        """The instances in each image; images of one size that follow each other go together."""
        groups = [list(group) for _, group in groupby(images, key=lambda image: image.shape)]
        return [found for group in groups for found in self._detect(group, min_score)]

    @torch.no_grad()
    def _detect(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], min_score: float
    ) -> Iterator[list[Detection]]:
        inputs = self._prepare(
            images=list(images), return_tensors="pt", input_data_format="channels_last"
        )
        pixels = inputs["pixel_values"].to(self._device)
        output = self._model(pixel_values=pixels)
        height, width = images[0].shape[:2]
        for logits, masks in zip(
            output.class_queries_logits, output.masks_queries_logits, strict=True
        ):
            found = instances(
                logits.float(), masks.float(), pixels.shape[-2:], (height, width), min_score
            )
            yield [
                Detection(self._names[label], score, mask_to_box(mask), mask)
                for label, score, mask in found
                if label in self._names
            ]


def instances(
    logits: Float[Tensor, "queries classes_and_none"],
    masks: Float[Tensor, "queries low_height low_width"],
    input_size: Sequence[int],
    size: tuple[int, int],
    min_score: float,
) -> list[tuple[int, float, Bool[np.ndarray, "height width"]]]:
    """Class, score and mask of the instances that score above `min_score`.

    The score is the class's probability times the mean of the mask's inside itself. Mask logits
    are brought to the size of the network's input and from there to the picture's.
    """
    probabilities = logits.softmax(-1)[:, :-1]
    classes = probabilities.shape[1]
    best = probabilities.flatten().topk(min(MAX_PAIRS, probabilities.numel()))
    # A mask's mean is at most 1: the others cannot pass.
    likely = best.values > min_score
    found = []
    for probability, index in zip(best.values[likely], best.indices[likely], strict=True):
        query, label = divmod(int(index), classes)
        mask = _resize(_resize(masks[query], input_size), size)
        inside = mask > 0
        score = float(probability * (mask.sigmoid() * inside).sum() / (inside.sum() + 1e-6))
        if score > min_score:
            found.append((label, score, inside.cpu().numpy()))
    return found


def mask_to_box(mask: Bool[np.ndarray, "height width"]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the pixels of a mask that has some; right, bottom outside."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _resize(mask: Float[Tensor, "_ _"], size: Sequence[int]) -> Float[Tensor, "height width"]:
    return F.interpolate(mask[None, None], size=tuple(size), mode="bilinear", align_corners=False)[
        0, 0
    ]
