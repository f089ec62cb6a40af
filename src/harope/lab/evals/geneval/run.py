"""GenEval over a folder: pictures to verdicts, resumable, by one process or several."""

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
    confidence,
    judge,
    select_objects,
)
from harope.lab.evals.geneval.scores import Record
from harope.lab.evals.result_store import Judge, Task, Values


def geneval_provenance(
    detector: Detector, colors: ColorClassifier, rules: GenEvalRules
) -> dict[str, Any]:
    """What verdicts depend on besides the pictures, in JSON values."""
    return {
        "benchmark": "geneval",
        "detector": asdict(detector.used),
        "colors": asdict(colors.used),
        "rules": asdict(rules),
    }


def geneval_requests(pictures: Sequence[GenEvalImage]) -> list[Task]:
    """The pictures with their metadata as JSON."""
    return [Task(picture.name, json.dumps(picture.metadata)) for picture in pictures]


def geneval_scorer(detector: Detector, colors: ColorClassifier, rules: GenEvalRules) -> Judge:
    """Verdicts as lines of the official `results.jsonl`."""
    return partial(_records, detector, colors, rules)


def _records(
    detector: Detector,
    colors: ColorClassifier,
    rules: GenEvalRules,
    tasks: Sequence[Task],
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> list[Values]:
    asked = [json.loads(task.asked) for task in tasks]
    lowest = min(confidence(metadata["tag"], rules) for metadata in asked)
    found = detector(images, lowest)
    records: list[Record] = []
    for task, metadata, image, detections in zip(tasks, asked, images, found, strict=True):
        objects = select_objects(detections, metadata["tag"], rules)
        verdict = judge(objects, metadata, partial(colors, image), rules)
        boxes = {
            name: [[*one.box, one.score] for one in detections]
            for name, detections in objects.items()
        }
        records.append(
            {
                "filename": task.name,
                "tag": metadata["tag"],
                "prompt": metadata["prompt"],
                "correct": verdict.correct,
                "reason": verdict.reason,
                "metadata": task.asked,
                "details": json.dumps(boxes),
            }
        )
    return records
