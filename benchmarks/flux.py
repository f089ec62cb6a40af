"""flux-lora-emoji: eight emoji by heart, with and without HARoPE, drawn by a stock pipeline."""

from pathlib import Path

import torch

from harope.lab.data.captioned.base import FiniteCaptionedSource
from harope.lab.data.registry import open_captioned
from harope.lab.recipes import get_recipe
from harope.lab.recipes.flux import flux_lora_emoji
from harope.lab.reporting.captions import plot_captioned_images
from harope.lab.sampling.generators import load_text_generator
from harope.lab.sampling.pipelines import PipelineOptions
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override

TITLES = {"harope": "LoRA and HARoPE", "axial": "LoRA alone"}

Rows = list[tuple[str, ...]]


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
    plot_captioned_images({**columns, "the emoji": real}, captions, pages / "flux-lora-emoji.png")
    return rows
