"""Page on flux-lora-emoji: a LoRA that memorises eight emoji, with and without HARoPE."""

from pathlib import Path

import torch

from harope.lab.data.captioned.base import FiniteCaptionedDataset
from harope.lab.data.registry import open_captioned_dataset
from harope.lab.recipes import get_recipe
from harope.lab.recipes.flux import flux_lora_emoji
from harope.lab.reporting.captions import plot_captioned_images
from harope.lab.sampling.generators import load_text_to_image_generator
from harope.lab.sampling.pipelines import PipelineOptions
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override
from scripts.results.page import COMMAND, PAGES, WORK, Rows, write_page

TITLES = {"harope-v1": "LoRA and HARoPE", "axial": "LoRA alone"}


def write_flux() -> None:
    """Train or reuse the runs, and write the page with its plots to docs/results."""
    rows = flux_rows(WORK, PAGES)
    write_page(
        "flux",
        "FLUX with LoRA, with and without HARoPE",
        f"Produced by `{COMMAND} flux`: in the recipe `flux-lora-emoji`, a small FLUX with random "
        "frozen weights memorises eight emoji by LoRA on all its linear layers, once with HARoPE "
        "as in its first arXiv version (`harope-v1`) and once with FLUX's own RoPE. The LoRA and "
        "the encoding are then loaded from their files into an unmodified pipeline of the same "
        "folder, which samples the eight names. That eight images are memorised shows that "
        "training, files and pipelines work, not which encoding is better.",
        rows,
        "![emoji](flux-lora-emoji.png)",
    )


def flux_rows(work: Path, pages: Path) -> Rows:
    """Train both models, sample them by an unmodified pipeline, and write a grid of the samples.

    Args:
        work: Folder of the runs.
        pages: Folder of the grid.

    Returns:
        Table of losses and of the mean error of the samples.
    """
    config, recipe = flux_lora_emoji(), get_recipe("flux-lora-emoji")
    source = open_captioned_dataset(config.data, seed=0)
    assert isinstance(source, FiniteCaptionedDataset)
    captions = [source.captions(index)[0] for index in range(len(source))]
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
        pipeline = load_text_to_image_generator(Path(config.model.pretrained), options)
        samples = torch.as_tensor(pipeline.generate(captions, list(range(len(captions)))))
        columns[title] = samples.permute(0, 3, 1, 2) / 255
        error = 255 * (columns[title] - real).abs().mean().item()
        losses = [line["loss"] for line in read_metrics(run)]
        rows.append((title, f"{losses[0]:.3f}", f"{losses[-1]:.3f}", f"{error:.1f}"))
    plot_captioned_images({**columns, "the emoji": real}, captions, pages / "flux-lora-emoji.png")
    return rows
