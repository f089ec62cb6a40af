"""Text to image: scenes-mmdit by three encodings, scored, and emoji-mmdit on held-out names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from harope.lab.data.captioned.base import FiniteCaptionedSource
from harope.lab.data.captioned.emoji import EmojiData
from harope.lab.data.registry import open_captioned
from harope.lab.evals.scenes import prompt_scores, scenes_requests
from harope.lab.metrics.intervals import Scores
from harope.lab.recipes import get_recipe
from harope.lab.recipes.mmdit import emoji_mmdit
from harope.lab.reporting.captions import plot_captioned_images
from harope.lab.reporting.images import read_images
from harope.lab.sampling.generators import load_text_generator
from harope.lab.sampling.prompt_folder import PlainLayout, PromptPlan, sample_prompts, whole_folder
from harope.lab.sampling.prompts import PromptRequest
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override

Curves = dict[str, list[dict[str, float]]]
"""Lines of metrics by encoding."""

ENCODINGS = ("ape", "axial", "harope")
# As long as two CPU cores allowed; the recipes' own settings take longer.
SCENES = {"steps": 2500, "batch_size": 32, "lr": 1.5e-3}
EMOJI = {"steps": 1200, "batch_size": 32, "checkpoint_every": 300}
PER_TASK = 50
"""Held-out prompts of scenes."""
SHOWN = 40
"""Held-out names of emoji."""


def train_recipe(name: str, run: Path, changes: Mapping[str, object]) -> list[dict[str, float]]:
    """The training's lines of metrics; a finished run is left as it is."""
    train(override(get_recipe(name).config(), dict(changes)), run, quiet=True)
    return read_metrics(run)


def scenes_scores(work: Path, pages: Path) -> tuple[dict[str, Scores], Curves]:
    """Scores in the six tasks by encoding, with the ceiling last; and the metrics of training."""
    columns: dict[str, Scores] = {}
    curves = {}
    plan = PromptPlan(
        requests=scenes_requests(PER_TASK), samples_per_prompt=1, batch_size=2 * PER_TASK
    )
    for encoding in ENCODINGS:
        run = work / f"scenes-mmdit-{encoding}"
        changes = {**SCENES, "encoding": encoding}
        curves[encoding] = train_recipe("scenes-mmdit", run, changes)
        drawn = _draw(run, plan, work / f"scenes-mmdit-{encoding}-drawn")
        scores = prompt_scores(drawn)
        columns[encoding], columns["ceiling"] = scores["samples"], scores["ceiling"]
        shown = [PER_TASK * task + place for task in range(6) for place in range(8)]
        pictures = read_images(whole_folder(plan, PlainLayout(), drawn))
        captions = [plan.requests[index].prompt for index in shown]
        target = pages / f"scenes-mmdit-{encoding}.png"
        plot_captioned_images({encoding: pictures[shown]}, captions, target, across=8)
    columns["ceiling"] = columns.pop("ceiling")
    return columns, curves


def emoji_grid(work: Path, pages: Path) -> list[dict[str, float]]:
    """Draw held-out names beside the emoji that have them; the metrics of training."""
    run = work / "emoji-mmdit"
    metrics = train_recipe("emoji-mmdit", run, EMOJI)
    data = emoji_mmdit().data
    assert isinstance(data, EmojiData)
    real = open_captioned(replace(data, split="test"), seed=0)
    assert isinstance(real, FiniteCaptionedSource)
    places = [index * len(real) // SHOWN for index in range(SHOWN)]
    names = [real.captions(place)[0] for place in places]
    requests = tuple(PromptRequest(name=f"{i:06d}", prompt=name) for i, name in enumerate(names))
    plan = PromptPlan(requests=requests, samples_per_prompt=1, batch_size=SHOWN)
    drawn = whole_folder(plan, PlainLayout(), _draw(run, plan, work / "emoji-mmdit-drawn"))
    columns: dict[str, Tensor] = {
        "drawn": read_images(drawn),
        "the emoji of this name": (torch.as_tensor(real.images(places)) + 1) / 2,
    }
    plot_captioned_images(columns, names, pages / "emoji-mmdit.png", across=8)
    return metrics


def _draw(run: Path, plan: PromptPlan, out: Path) -> Path:
    generator = load_text_generator(run)
    sample_prompts(generator.draw, plan, PlainLayout(), out, made_by=generator.describe())
    return out
