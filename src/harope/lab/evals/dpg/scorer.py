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
    """Describe everything except images and questions that answers depend on.

    Args:
        vqa: Network that answers the questions.
        tiles: Samples per grid.

    Returns:
        JSON values for the result store.
    """
    return {"benchmark": "dpg", "vqa": asdict(vqa.info), "samples_per_prompt": tiles}


def dpg_requests(names: Mapping[str, str], items: ByItem) -> list[Request]:
    """Return one request per item, whose question is the item and its questions as JSON.

    Args:
        names: File name of each item's grid.
        items: Questions by item and number.

    Returns:
        The requests in the order of the items.
    """
    return [
        Request(names[item], json.dumps([item, {n: q.text for n, q in questions.items()}]))
        for item, questions in items.items()
    ]


def dpg_scorer(vqa: VQA, tiles: int, batch_size: int) -> Scorer:
    """Create a scorer that answers every question about every tile.

    Args:
        vqa: Network that answers the questions.
        tiles: Samples per grid.
        batch_size: Pairs of image and question per forward pass.

    Returns:
        A scorer whose results `answers_by_item` reads.
    """
    return partial(_answer_grids, vqa, tiles, batch_size)


def answers_by_item(results: Sequence[Values]) -> dict[str, list[Answers]]:
    """Convert results to yes or no; only "yes" counts as yes.

    Args:
        results: Results of `dpg_scorer`.

    Returns:
        Answers by item, tile and question.
    """
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
