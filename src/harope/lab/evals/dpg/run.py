"""DPG-Bench over a folder: grids to answers, resumable, by one process or several."""

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
from harope.lab.evals.result_store import Judge, Task, Values


def dpg_provenance(vqa: VQA, tiles: int) -> dict[str, Any]:
    """What answers depend on besides pictures and questions, in JSON values."""
    return {"benchmark": "dpg", "vqa": asdict(vqa.used), "samples_per_prompt": tiles}


def dpg_requests(names: Mapping[str, str], items: ByItem) -> list[Task]:
    """Each item's picture with its questions as JSON, by number."""
    return [
        Task(names[item], json.dumps([item, {n: q.text for n, q in questions.items()}]))
        for item, questions in items.items()
    ]


def dpg_scorer(vqa: VQA, tiles: int, batch_size: int) -> Judge:
    """Answers by tile and question of each grid, `batch_size` questions at once."""
    return partial(_answer_grids, vqa, tiles, batch_size)


def answers_by_item(results: Sequence[Values]) -> dict[str, list[Answers]]:
    """Whether each answer is yes. The script compares with "yes" and nothing else."""
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
    tasks: Sequence[Task],
    grids: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> list[Values]:
    return [
        _answer_grid(vqa, cut_tiles(grid, tiles), batch_size, task)
        for task, grid in zip(tasks, grids, strict=True)
    ]


def _answer_grid(
    vqa: VQA, tiles: Sequence[UInt8[np.ndarray, "_ _ 3"]], batch_size: int, task: Task
) -> Values:
    item, questions = json.loads(task.asked)
    pairs = [(tile, text) for tile in tiles for text in questions.values()]
    said: list[str] = []
    for start in range(0, len(pairs), batch_size):
        images, texts = zip(*pairs[start : start + batch_size], strict=True)
        said += vqa(images, texts)
    each = len(questions)
    return {
        "item": item,
        "answers": [
            dict(zip(questions, said[place * each : (place + 1) * each], strict=True))
            for place in range(len(tiles))
        ],
    }
