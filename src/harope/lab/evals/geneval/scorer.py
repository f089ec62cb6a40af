"""Connection between GenEval's rules and the resumable result store."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from harope.lab.evals.geneval.folders import GenEvalImage
from harope.lab.evals.geneval.rules import (
    ColorClassifier,
    Detector,
    GenEvalRules,
    evaluate_image,
    score_threshold,
    select_objects,
)
from harope.lab.evals.geneval.scores import Record
from harope.lab.evals.result_store import Request, Scorer, Values


def geneval_provenance(
    detector: Detector, colors: ColorClassifier, rules: GenEvalRules
) -> dict[str, Any]:
    """Describe everything except the images that verdicts depend on.

    Args:
        detector: Network that detects objects.
        colors: Network that classifies colours.
        rules: Constants of the verdict.

    Returns:
        JSON values for the result store.
    """
    return {
        "benchmark": "geneval",
        "detector": asdict(detector.info),
        "colors": asdict(colors.info),
        "rules": asdict(rules),
    }


def geneval_requests(images: Sequence[GenEvalImage]) -> list[Request]:
    """Ask for the verdict on each image.

    Args:
        images: Images of `read_geneval_folder`.

    Returns:
        One request per image, whose question is the prompt's metadata as JSON.
    """
    return [Request(image.name, json.dumps(image.metadata)) for image in images]


def geneval_scorer(detector: Detector, colors: ColorClassifier, rules: GenEvalRules) -> Scorer:
    """Create a scorer that decides whether images show what their prompts ask for.

    Args:
        detector: Network that detects objects.
        colors: Network that classifies colours.
        rules: Constants of the verdict.

    Returns:
        A scorer whose results are records of the official `results.jsonl`.
    """
    return partial(_score_batch, detector, colors, rules)


def _score_batch(
    detector: Detector,
    colors: ColorClassifier,
    rules: GenEvalRules,
    requests: Sequence[Request],
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> list[Values]:
    prompts = [json.loads(request.question) for request in requests]
    lowest = min(score_threshold(metadata["tag"], rules) for metadata in prompts)
    detected = detector(images, lowest)
    records: list[Record] = []
    for request, metadata, image, detections in zip(
        requests, prompts, images, detected, strict=True
    ):
        objects = select_objects(detections, metadata["tag"], rules)
        verdict = evaluate_image(objects, metadata, partial(colors, image), rules)
        boxes = {
            name: [[*detection.box, detection.score] for detection in detections]
            for name, detections in objects.items()
        }
        records.append(
            {
                "filename": request.name,
                "tag": metadata["tag"],
                "prompt": metadata["prompt"],
                "correct": verdict.correct,
                "reason": verdict.reason,
                "metadata": request.question,
                "details": json.dumps(boxes),
            }
        )
    return records
