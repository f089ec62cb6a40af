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


def draw_batches(count: int):
    """As `draw`, but interrupted after so many batches."""
    left = iter(range(count))

    def interrupted(prompts: list[str], seeds: list[int]) -> torch.Tensor:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return draw(prompts, seeds)

    return interrupted


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


def save_pixel(path: Path, pixel: tuple[int, int, int], size: int = 8) -> None:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), pixel).save(path)


def write_geneval(
    folder: Path, names: list[str], pixels: tuple[tuple[int, int, int], ...] = ((1, 1, 95),) * 2
) -> Path:
    """GenEval's folder of prompts for one object each, all with the same pictures."""
    for number, name in enumerate(names):
        include = [{"class": name, "count": 1}]
        prompt = folder / f"{number:05d}"
        for place, pixel in enumerate(pixels):
            save_pixel(prompt / "samples" / f"{place:04d}.png", pixel)
        metadata = {"tag": "single_object", "include": include, "prompt": f"a {name}"}
        (prompt / "metadata.jsonl").write_text(json.dumps(metadata) + "\n")
    return folder


DPG_COLUMNS = (
    "item_id", "text", "keywords", "proposition_id", "dependency", "category_broad",
    "category_detailed", "tuple", "question_natural_language",
)  # fmt: skip


def write_questions(path: Path, rows: list[tuple[str, int, str, str]]) -> Path:
    """DPG-Bench's table, of (item, number, dependency, tuple); the questions name the number."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(DPG_COLUMNS)
        for item, number, dependency, category in rows:
            question = f"Is it so, {number} ?"
            cells = (item, "a text, of it", "", number, dependency, "", "", category, question)
            writer.writerow(cells)
    return path
