"""Folders of pictures as the official scorers of GenEval and DPG-Bench walk them.

What they look at, pass over and leave out is theirs; the networks that judge are left away.
"""

import csv
import json
import os
import re
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from PIL import Image


def picture(prompt: str, seed: int, size: int = 4) -> torch.Tensor:
    """A picture of one colour that no other prompt or seed has."""
    code = crc32(f"{prompt} {seed}".encode())
    return torch.tensor(list(code.to_bytes(4, "big")[:3]), dtype=torch.uint8).expand(size, size, 3)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def draw(prompts: list[str], seeds: list[int]) -> torch.Tensor:
    return torch.stack([picture(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)])


def draw_nothing(prompts: list[str], seeds: list[int]) -> torch.Tensor:
    raise AssertionError(f"{prompts} drawn again")


def geneval_reads(folder: Path) -> list[tuple[str, dict, np.ndarray]]:
    """Path below the folder, metadata and pixels of what `evaluate_images.py` scores."""
    found = []
    for name in os.listdir(folder):
        if not (folder / name).is_dir() or not name.isdigit():
            continue
        metadata = json.loads((folder / name / "metadata.jsonl").read_text())
        for image in os.listdir(folder / name / "samples"):
            path = folder / name / "samples" / image
            if path.is_file() and re.match(r"\d+\.png", image):
                found.append((f"{name}/samples/{image}", metadata, pixels(path)))
    return sorted(found, key=lambda entry: entry[0])


def dpg_questions(path: Path) -> dict[str, list[str]]:
    """Questions of every item in the CSV; `compute_dpg_bench.py` passes over its first row."""
    questions: dict[str, list[str]] = {}
    with path.open() as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number:
                questions.setdefault(row["item_id"], []).append(row["question_natural_language"])
    return questions


def dpg_reads(
    folder: Path, table: Path, resolution: int, pic_num: int
) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """Tiles of every item that `compute_dpg_bench.py` scores, and the names that it leaves out."""
    questions, tiles, failed = dpg_questions(table), {}, []
    corners = [(0, 0), (resolution, 0), (0, resolution), (resolution, resolution)][:pic_num]
    for name in os.listdir(folder):
        try:
            image = Image.fromarray(pixels(folder / name))
            item = name.split(".")[0]
            assert questions[item]
        except (OSError, KeyError):
            failed.append(name)
            continue
        boxes = [(left, top, left + resolution, top + resolution) for left, top in corners]
        tiles[item] = [np.asarray(image.crop(box)) for box in boxes]
    return tiles, failed
