"""flux-lora-emoji: eight emoji by heart, with and without HARoPE, drawn by a stock pipeline."""

from pathlib import Path

import torch

from harope.lab.data.captioned.base import FiniteCaptionedSource
from harope.lab.data.registry import open_captioned
from harope.lab.recipes import get_recipe
from harope.lab.recipes.flux import flux_lora_emoji
from harope.lab.reporting.captions import captioned_grid
from harope.lab.sampling.generators import load_text_generator
from harope.lab.sampling.pipelines import PipelineOptions
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override
from scripts.results.page import COMMAND, PAGES, WORK, Rows, write_page

TITLES = {"harope": "LoRA and HARoPE", "axial": "LoRA alone"}


def write_flux() -> None:
    """flux-lora-emoji with HARoPE and without."""
    rows = flux_rows(WORK, PAGES)
    write_page(
        "flux",
        "FLUX by LoRA, with HARoPE and without",
        f"Made by `{COMMAND} flux`: the recipe `flux-lora-emoji`, a small FLUX with random frozen "
        "weights that learns eight emoji by LoRA on all its Linears, once beside HARoPE and once "
        "beside FLUX's plain rotation. Both are then read from their two files into a stock "
        "pipeline of the same folder, which draws the eight names. That eight pictures are learned "
        "by heart says that training, files and pipelines work, not which encoding is better.",
        rows,
        "![emoji](flux-lora-emoji.png)",
    )


def flux_rows(work: Path, pages: Path) -> Rows:
    """Losses, and the error of the pictures that a stock pipeline draws; also a grid of them."""
    config, recipe = flux_lora_emoji(), get_recipe("flux-lora-emoji")
    source = open_captioned(config.data, seed=0)
    assert isinstance(source, FiniteCaptionedSource)
    captions = [source.captions(place)[0] for place in range(len(source))]
    real = (source.images(range(len(source))) + 1) / 2
    columns = {}
    rows: Rows = [("", "loss, first 20 steps", "loss, last 20", "mean error of a value in 0..255")]
    for encoding, title in TITLES.items():
        run = work / f"flux-lora-emoji-{encoding}"
        changed = override(config, {"encoding": encoding})
        if recipe.prepare is not None:
            recipe.prepare(changed)
        train(changed, run, quiet=True)
        adapters, (_, height, width) = run / "adapters", source.shape
        options = PipelineOptions(
            height=height,
            width=width,
            text_length=config.text_length,
            encoding=adapters,
            lora=adapters,
        )
        pipeline = load_text_generator(Path(config.model.pretrained), options)
        drawn = torch.as_tensor(pipeline.draw(captions, list(range(len(captions)))))
        columns[title] = drawn.permute(0, 3, 1, 2) / 255
        error = 255 * (columns[title] - real).abs().mean().item()
        losses = [line["loss"] for line in read_metrics(run)]
        rows.append((title, f"{losses[0]:.3f}", f"{losses[-1]:.3f}", f"{error:.1f}"))
    captioned_grid({**columns, "the emoji": real}, captions, pages / "flux-lora-emoji.png")
    return rows
