"""Object detection with Mask2Former (Cheng et al. 2022, arXiv 2112.01527), from transformers.

Scores, masks and boxes follow mmdetection (`maskformer_fusion_head.py`), at the image's own size.
The post-processing of transformers would resize the masks to 384 x 384 first.
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
from harope.lab.evals.local_models import (
    describe_model,
    load_component,
    load_model,
    read_model_type,
)

OPTION = "--detector"
MAX_PAIRS = 100
"""Number of (mask, class) pairs that are considered, the most likely ones."""


class Mask2FormerDetector:
    """Detector with a local Mask2Former model, such as mask2former-swin-small-coco-instance.

    Args:
        folder: Mask2Former with its image processor.
        device: Device to run it on.

    Raises:
        ValueError: If the folder contains another model or is incomplete, or the model does not
            know one of GenEval's classes.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        read_model_type(folder, {"mask2former": "Mask2Former, trained on COCO's instances"}, OPTION)
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForUniversalSegmentation

        self._device = device
        # The weights come last because they take longest.
        labels = load_component(AutoConfig, folder, OPTION).id2label
        self._names = class_names(labels, f"{OPTION} {folder}")
        self._prepare = load_component(AutoImageProcessor, folder, OPTION)
        self._model = load_model(AutoModelForUniversalSegmentation, folder, OPTION).to(device)
        self.info = describe_model(self._model, folder, "Mask2Former swin-s of mmdetection")

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], min_score: float
    ) -> list[list[Detection]]:
        # A forward pass needs images of one size.
        groups = [list(group) for _, group in groupby(images, key=lambda image: image.shape)]
        return [objects for group in groups for objects in self._detect(group, min_score)]

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
            detected = instances(
                logits.float(), masks.float(), pixels.shape[-2:], (height, width), min_score
            )
            yield [
                Detection(self._names[label], score, mask_to_box(mask), mask)
                for label, score, mask in detected
                if label in self._names
            ]


def instances(
    logits: Float[Tensor, "queries classes_and_none"],
    masks: Float[Tensor, "queries low_height low_width"],
    input_size: Sequence[int],
    size: tuple[int, int],
    min_score: float,
) -> list[tuple[int, float, Bool[np.ndarray, "height width"]]]:
    """Extract the instances of one image with a score above `min_score`.

    The score is the class probability times the mean mask probability over the pixels of the mask.

    Args:
        logits: Class logits of each query; the last class is "no object".
        masks: Mask logits of each query, resized first to `input_size`, then to `size`.
        input_size: Height and width of the network's input.
        size: Height and width of the image.
        min_score: Instances must have a higher score.

    Returns:
        Class index, score and mask of each instance.
    """
    probabilities = logits.softmax(-1)[:, :-1]
    classes = probabilities.shape[1]
    best = probabilities.flatten().topk(min(MAX_PAIRS, probabilities.numel()))
    # The mean mask probability is at most 1, so less likely pairs cannot pass.
    likely = best.values > min_score
    detected = []
    for probability, index in zip(best.values[likely], best.indices[likely], strict=True):
        query, label = divmod(int(index), classes)
        mask = _resize(_resize(masks[query], input_size), size)
        inside = mask > 0
        score = float(probability * (mask.sigmoid() * inside).sum() / (inside.sum() + 1e-6))
        if score > min_score:
            detected.append((label, score, inside.cpu().numpy()))
    return detected


def mask_to_box(mask: Bool[np.ndarray, "height width"]) -> tuple[float, float, float, float]:
    """Compute the bounding box of a mask that is not empty.

    Args:
        mask: Pixels of the object.

    Returns:
        Left, top, right and bottom in pixels; right and bottom are exclusive.
    """
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _resize(mask: Float[Tensor, "_ _"], size: Sequence[int]) -> Float[Tensor, "height width"]:
    return F.interpolate(mask[None, None], size=tuple(size), mode="bilinear", align_corners=False)[
        0, 0
    ]
