"""Page on text to image: scenes-mmdit with three encodings, and emoji-mmdit on held-out names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from harope.lab.data.captioned.base import FiniteCaptionedDataset
from harope.lab.data.captioned.emoji import EmojiDataConfig
from harope.lab.data.registry import open_captioned_dataset
from harope.lab.evals.scenes import prompt_scores, scenes_requests
from harope.lab.metrics.intervals import Scores
from harope.lab.recipes import get_recipe
from harope.lab.recipes.mmdit import emoji_mmdit
from harope.lab.reporting.captions import plot_captioned_images
from harope.lab.reporting.images import read_images
from harope.lab.reporting.plots import plot_losses, plot_scores
from harope.lab.reporting.tables import score_rows
from harope.lab.sampling.generators import load_text_to_image_generator
from harope.lab.sampling.prompt_folder import (
    FlatFolder,
    PromptPlan,
    read_complete_folder,
    sample_prompts,
)
from harope.lab.sampling.prompts import PromptRequest
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override
from scripts.results.page import COMMAND, PAGES, WORK, write_page

Curves = dict[str, list[dict[str, float]]]
"""Lines of `metrics.jsonl` by encoding."""

ENCODINGS = ("ape", "axial", "harope-v1")
# Shorter trainings than those of the recipes, for two CPU cores.
SCENES = {"steps": 2500, "batch_size": 32, "lr": 1.5e-3}
EMOJI = {"encoding": "harope-v1", "steps": 1200, "batch_size": 32, "checkpoint_every": 300}
PER_TASK = 50
"""Number of held-out prompts per task of the scenes."""
SHOWN = 40
"""Number of held-out emoji names."""


def write_text_to_image() -> None:
    """Train or reuse the runs, and write the page with its plots to docs/results."""
    columns, curves = scenes_scores(WORK, PAGES)
    plot_losses(curves, PAGES / "scenes-mmdit-losses.png")
    plot_scores(columns, PAGES / "scenes-mmdit-scores.png")
    emoji = emoji_grid(WORK, PAGES)
    write_page(
        "text-to-image",
        "Text to image",
        f"Produced by `{COMMAND} text-to-image`.",
        "## scenes-mmdit",
        f"An MMDiT (diffusers' SD3Transformer2DModel, trained from scratch) on captions of the "
        f"built-in scenes, {_length(curves['axial'])}, seed 0. All encodings are scored by the "
        f"scenes reader on {PER_TASK} held-out prompts of each of GenEval's tasks with the same "
        "seeds; intervals are 95 % Wilson intervals. `ape` is the model's own sinusoidal "
        "embedding, which the others replace; `harope-v1` is HARoPE as in its first arXiv version. "
        "The ceiling is the score of rendered scenes of the "
        "same prompts. Each encoding was trained once: a difference between columns is no evidence "
        "for an encoding.",
        score_rows(columns),
        "![scores](scenes-mmdit-scores.png)",
        "![losses](scenes-mmdit-losses.png)",
        *(f"![{name}](scenes-mmdit-{name}.png)" for name in curves),
        "## emoji-mmdit",
        "An MMDiT with `harope-v1` on Google's emoji at 32 pixels and their names, encoded by "
        f"MiniLM: {_length(emoji)}. One sample of each of several names that are not in the "
        "training data, next to the emoji of that name.",
        "![emoji](emoji-mmdit.png)",
    )


def _length(metrics: Sequence[Mapping[str, float]]) -> str:
    last = metrics[-1]
    return f"{last['step']:,.0f} steps, {last['images']:,.0f} images"


def train_recipe(name: str, run: Path, changes: Mapping[str, object]) -> list[dict[str, float]]:
    """Train a recipe, or reuse the finished run.

    Args:
        name: Name of the recipe.
        run: Run folder.
        changes: Fields of the configuration that differ from the recipe.

    Returns:
        Lines of the run's `metrics.jsonl`.
    """
    train(override(get_recipe(name).config(), dict(changes)), run, quiet=True)
    return read_metrics(run)


def scenes_scores(work: Path, pages: Path) -> tuple[dict[str, Scores], Curves]:
    """Train, sample and score all encodings.

    Args:
        work: Folder of runs and samples.
        pages: Folder of the grids of samples.

    Returns:
        Scores by encoding with the ceiling last, and lines of metrics by encoding.
    """
    columns: dict[str, Scores] = {}
    curves = {}
    plan = PromptPlan(
        requests=scenes_requests(PER_TASK), samples_per_prompt=1, batch_size=2 * PER_TASK
    )
    for encoding in ENCODINGS:
        run = work / f"scenes-mmdit-{encoding}"
        changes = {**SCENES, "encoding": encoding}
        curves[encoding] = train_recipe("scenes-mmdit", run, changes)
        folder = _sample(run, plan, work / f"scenes-mmdit-{encoding}-samples")
        scores = prompt_scores(folder)
        columns[encoding], columns["ceiling"] = scores["samples"], scores["ceiling"]
        shown = [PER_TASK * task + index for task in range(6) for index in range(8)]
        images = read_images(read_complete_folder(plan, FlatFolder(), folder))
        captions = [plan.requests[index].prompt for index in shown]
        target = pages / f"scenes-mmdit-{encoding}.png"
        plot_captioned_images({encoding: images[shown]}, captions, target, across=8)
    columns["ceiling"] = columns.pop("ceiling")
    return columns, curves


def emoji_grid(work: Path, pages: Path) -> list[dict[str, float]]:
    """Train emoji-mmdit, and write a grid of samples of held-out names with their emoji.

    Args:
        work: Folder of the run and the samples.
        pages: Folder of the grid.

    Returns:
        Lines of metrics.
    """
    run = work / "emoji-mmdit"
    metrics = train_recipe("emoji-mmdit", run, EMOJI)
    data = emoji_mmdit().data
    assert isinstance(data, EmojiDataConfig)
    real = open_captioned_dataset(replace(data, split="test"), seed=0)
    assert isinstance(real, FiniteCaptionedDataset)
    indices = [number * len(real) // SHOWN for number in range(SHOWN)]
    names = [real.captions(index)[0] for index in indices]
    requests = tuple(PromptRequest(name=f"{i:06d}", prompt=name) for i, name in enumerate(names))
    plan = PromptPlan(requests=requests, samples_per_prompt=1, batch_size=SHOWN)
    folder = _sample(run, plan, work / "emoji-mmdit-samples")
    samples = read_complete_folder(plan, FlatFolder(), folder)
    columns: dict[str, Tensor] = {
        "sample": read_images(samples),
        "emoji of this name": (torch.as_tensor(real.images(indices)) + 1) / 2,
    }
    plot_captioned_images(columns, names, pages / "emoji-mmdit.png", across=8)
    return metrics


def _sample(run: Path, plan: PromptPlan, out: Path) -> Path:
    generator = load_text_to_image_generator(run)
    sample_prompts(generator.generate, plan, FlatFolder(), out, made_by=generator.describe())
    return out
