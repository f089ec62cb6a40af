"""Connection between DPG-Bench's visual question answering and the resumable result store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from harope.lab.evals.dpg.folders import cut_tiles
from harope.lab.evals.dpg.questions import ByItem
from harope.lab.evals.dpg.scores import Answers
from harope.lab.evals.dpg.vqa import VQA
from harope.lab.evals.result_store import Request, Scorer, Values


def dpg_provenance(vqa: VQA, tiles: int) -> dict[str, Any]:
    """Describe everything except images and questions that answers depend on, as JSON values."""
    return {"benchmark": "dpg", "vqa": asdict(vqa.info), "samples_per_prompt": tiles}


def dpg_requests(names: Mapping[str, str], items: ByItem) -> list[Request]:
    """Return one request per item, whose question is the item and its questions as JSON.

    Args:
        names: file name of each item's grid.
        items: questions by item and number.
    """
    return [
        Request(names[item], json.dumps([item, {n: q.text for n, q in questions.items()}]))
        for item, questions in items.items()
    ]


def dpg_scorer(vqa: VQA, tiles: int, batch_size: int) -> Scorer:
    """Return a scorer whose results are the answers to every question of every tile.

    Args:
        vqa: network that answers the questions.
        tiles: samples per grid.
        batch_size: pairs of image and question per forward pass.
    """
    return partial(_answer_grids, vqa, tiles, batch_size)


def answers_by_item(results: Sequence[Values]) -> dict[str, list[Answers]]:
    """Convert results to yes or no by item, tile and question; only "yes" counts as yes."""
    return {
        result["item"]: [
            {int(number): answer == "yes" for number, answer in tile.items()}
            for tile in result["answers"]
        ]
        for result in results
    }


def _answer_grids(
    vqa: VQA,
    tiles: int,
    batch_size: int,
    requests: Sequence[Request],
    grids: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> list[Values]:
    return [
        _answer_grid(vqa, cut_tiles(grid, tiles), batch_size, request)
        for request, grid in zip(requests, grids, strict=True)
    ]


def _answer_grid(
    vqa: VQA, tiles: Sequence[UInt8[np.ndarray, "_ _ 3"]], batch_size: int, request: Request
) -> Values:
    item, questions = json.loads(request.question)
    pairs = [(tile, text) for tile in tiles for text in questions.values()]
    answers: list[str] = []
    for start in range(0, len(pairs), batch_size):
        images, texts = zip(*pairs[start : start + batch_size], strict=True)
        answers += vqa(images, texts)
    count = len(questions)
    return {
        "item": item,
        "answers": [
            dict(zip(questions, answers[tile * count : (tile + 1) * count], strict=True))
            for tile in range(len(tiles))
        ],
    }
