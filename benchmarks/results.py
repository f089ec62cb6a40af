"""Make the pages of docs/results again: `python benchmarks/results.py PAGE`.

Runs and samples go to `runs/results`; what is there already is completed, not made again.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from compare import COMMAND as COMPARE
from compare import compare_page
from distances import distances_page
from flux import flux_rows
from heads import heads_page
from memory import memory_rows
from text_to_image import PER_TASK, emoji_grid, scenes_scores
from vit import digits_tables

from harope.lab.bench.main import BenchConfig, goal_table, run_bench, time_table
from harope.lab.evals.classification import class_scores
from harope.lab.evals.scenes import ceiling_scores, folder_scores, rendered_scores, scene_labels
from harope.lab.metrics.intervals import Scores
from harope.lab.recipes import get_recipe
from harope.lab.recipes.vit import digits_vit
from harope.lab.reporting.images import write_image_grid
from harope.lab.reporting.plots import plot_losses, plot_scores
from harope.lab.reporting.tables import format_proportion, markdown_table
from harope.lab.sampling.class_folder import FolderPlan, read_folder, sample_folder, spread_labels
from harope.lab.sampling.runs import load_generator
from harope.lab.training.config import RunConfig
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override

PAGES, WORK = Path("docs/results"), Path("runs/results")
COMMAND = "python benchmarks/results.py"


def scenes() -> None:
    """The released pair on scenes: 300 single objects and 300 pictures of several."""
    labels = scene_labels(rounds=10)
    columns: dict[str, Scores] = {}
    curves, commands = {}, [("encoding", "command")]
    for encoding in ("harope", "axial"):
        folder = Path(str(files("harope.lab").joinpath("checkpoints", f"scenes-dit-{encoding}")))
        plan = FolderPlan(shape=(3, 32, 32), labels=labels, count=len(labels))
        drawn = sample_folder(load_generator(folder), plan, WORK / f"scenes-{encoding}")
        columns[encoding] = folder_scores(drawn)["samples"]
        curves[encoding] = read_metrics(folder)
        _, pictures = read_folder(drawn)
        write_image_grid(pictures[:120], PAGES / f"scenes-{encoding}.png", columns=15)
        commands.append((encoding, f"`{(folder / 'command.txt').read_text().strip()}`"))
    columns["ceiling"] = rendered_scores(list(labels), 32)
    plot_losses(curves, PAGES / "scenes-losses.png")
    plot_scores(columns, PAGES / "scenes-scores.png")
    _write(
        "scenes",
        "The released pair on scenes",
        f"Made by `{COMMAND} scenes`: 600 samples each, every kind in every colour ten times alone "
        "and ten times in 2 to 6 copies, the same seeds for both. One training each, seed 0: the "
        "intervals (95 %, Wilson) cover the samples, not the training, so a difference between the "
        "columns is no evidence for an encoding. The ceiling is what the reader gives rendered "
        "scenes of the same classes.",
        _scores_rows(columns),
        "single_object: the kind is there. colors: the kind in its colour. single_exact: and "
        "nothing else in the picture. counting: of 2 to 6, the right number of the kind. exact: "
        "all pictures, everything right.",
        "![scores](scenes-scores.png)",
        "Trained by",
        commands,
        "![losses](scenes-losses.png)",
        "harope: circles, squares, triangles, stars, crosses, each in red, yellow, green, cyan, "
        "blue, purple; then the same in 2 to 6 copies in turn; then both again.",
        "![harope](scenes-harope.png)",
        "axial, the same labels and seeds.",
        "![axial](scenes-axial.png)",
    )


def reader() -> None:
    """The scenes reader on rendered scenes, clean and degraded."""
    sections: list[str | Sequence[Sequence[str]]] = []
    for size in (32, 64):
        sections += [f"## {size} pixels", _scores_rows(ceiling_scores(size, count=250))]
    _write(
        "reader",
        "How well the scenes reader reads",
        f"Made by `{COMMAND} reader`: 250 rendered scenes per task. Exact: the number, all kinds "
        "and all colours are right, centres to 0.03 and radii to 0.02 of the side. Solved: the "
        "scene read satisfies its prompt, which is how a generated picture is scored. Noise is "
        "Gaussian on values in [0, 1]; blur is Gaussian, in pixels. 95 % Wilson intervals.",
        *sections,
    )


def fashion() -> None:
    """fashion-dit on the real Fashion-MNIST, judged by a classifier of the real images."""
    config, run = _fashion_run()
    generator = load_generator(run)
    labels = spread_labels(1000, 10)
    assert labels is not None
    plan = FolderPlan(shape=(1, 28, 28), labels=labels, count=len(labels))
    drawn = sample_folder(generator, plan, WORK / "fashion-samples")
    columns = class_scores(drawn, epochs=4)
    _, pictures = read_folder(drawn)
    chosen = [pictures[100 * label + place] for label in range(10) for place in range(10)]
    write_image_grid(chosen, PAGES / "fashion-grid.png", columns=10)
    metrics = read_metrics(run)
    plot_losses({"fashion-dit": metrics}, PAGES / "fashion-losses.png")
    last = metrics[-1]
    _write(
        "fashion",
        "fashion-dit on Fashion-MNIST",
        f"Made by `{COMMAND} fashion` (the data: Debian's `dataset-fashion-mnist`), seed 0, "
        f"{last['step']:,} steps of {config.batch_size}, {last['images']:,} images "
        f"({last['images'] / 60000:.1f} epochs), {last['seconds'] / 60:.0f} minutes of training on "
        f"a machine with {os.cpu_count()} CPU cores.",
        "A convolutional classifier, trained on the 60,000 real training images, says what class "
        "1,000 samples (100 of each class, guidance "
        f"{generator.sampling.guidance}) show. Its own accuracy on the 10,000 real test images "
        "stands beside: 95 % Wilson intervals. High accuracy says that classes are kept apart, "
        "not that samples are varied.",
        _scores_rows(columns),
        "Ten samples of each class, one class a row: T-shirt, trouser, pullover, dress, coat, "
        "sandal, shirt, sneaker, bag, ankle boot.",
        "![samples](fashion-grid.png)",
        "![loss](fashion-losses.png)",
    )


def _fashion_run() -> tuple[RunConfig, Path]:
    """Trained, unless it is."""
    config = override(get_recipe("fashion-dit").config(), {"log_every": 100})
    train(config, WORK / "fashion-dit")
    return config, WORK / "fashion-dit"


def distances() -> None:
    """FD-Lite0 on Fashion-MNIST: real against real, against noised, against samples."""
    _, run = _fashion_run()
    _write(
        "distances",
        "Distances on Fashion-MNIST, and their floor",
        f"Made by `{COMMAND} distances` (the data: Debian's `dataset-fashion-mnist`).",
        *distances_page(run, WORK / "fashion-distances", PAGES),
    )


def memory() -> None:
    """Peak memory of `harope evaluate distances` at its usual size."""
    _write(
        "memory",
        "Memory of distances",
        f"Made by `{COMMAND} memory`: peak resident memory of a process that measures 50,000 "
        "images of 256 pixels and a reference of 10,000, 64 at once, on the CPU. Inception's "
        "network, with random weights, sees the first batches; for the others, features of its "
        "shapes are drawn, which would otherwise take an hour. All else is what `harope evaluate "
        "distances` does.",
        memory_rows(WORK / "memory"),
    )


def digits() -> None:
    """digits-vit with every encoding, at the trained size and at others."""
    trained, resolutions = digits_tables(WORK / "digits-vit")
    config = digits_vit()
    _write(
        "digits",
        "digits-vit: every encoding, three seeds",
        f"Made by `{COMMAND} digits`: {config.steps} steps of {config.batch_size}, a ViT of depth "
        f"{config.model.depth} and width {config.model.width} on scikit-learn's digits (8 x 8 "
        "pixels, 16 tokens), top-1 in per cent on the 359 held-out images. At one seed all "
        "encodings start from the same weights and see the same images, so differences are paired; "
        "intervals are Student's, 95 %, over the seeds. `ape-learned` is the ViT's own embedding; "
        "all others stand in its place. The recipe's depth, rate and mixup were chosen by hand on "
        "the same held-out images, so the level is optimistic.",
        trained,
        "## Other resolutions",
        "The held-out images enlarged by bicubic interpolation, the model as it was trained at 8 "
        "pixels; mean over the seeds with half the width of its interval. Learned frequencies take "
        "two of the four ways to read positions; timm resamples the ViT's own embedding.",
        resolutions,
        "16 tokens and 1,438 images say little about large models: the table shows that all "
        "encodings train, not which one to choose.",
    )


def text_to_image() -> None:
    """scenes-mmdit by three encodings in GenEval's six tasks; emoji-mmdit on held-out names."""
    columns, curves = scenes_scores(WORK, PAGES)
    plot_losses(curves, PAGES / "scenes-mmdit-losses.png")
    plot_scores(columns, PAGES / "scenes-mmdit-scores.png")
    emoji = emoji_grid(WORK, PAGES)
    _write(
        "text-to-image",
        "Text to image",
        f"Made by `{COMMAND} text-to-image`.",
        "## scenes-mmdit",
        f"An MMDiT (diffusers' SD3Transformer2DModel, from scratch) on captions of the built-in "
        f"scenes, {_length(curves['axial'])}, seed 0. {PER_TASK} held-out prompts of each of "
        "GenEval's tasks, the same seeds for all, read back by the scenes reader: 95 % Wilson "
        "intervals. `ape` is the model's own sines and cosines; the others stand in their place. "
        "The ceiling is what the reader gives rendered scenes of the same prompts. One training "
        "each: a difference between columns is no evidence for an encoding.",
        _scores_rows(columns),
        "![scores](scenes-mmdit-scores.png)",
        "![losses](scenes-mmdit-losses.png)",
        *(f"![{name}](scenes-mmdit-{name}.png)" for name in curves),
        "## emoji-mmdit",
        "An MMDiT with HARoPE on Google's emoji at 32 pixels and their names, read by MiniLM: "
        f"{_length(emoji)}. Names that training did not see, drawn once each, beside the emoji "
        "that have them.",
        "![emoji](emoji-mmdit.png)",
    )


def flux() -> None:
    """flux-lora-emoji with HARoPE and without."""
    rows = flux_rows(WORK, PAGES)
    _write(
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


def _length(metrics: Sequence[Mapping[str, float]]) -> str:
    last = metrics[-1]
    return f"{last['step']:,.0f} steps, {last['images']:,.0f} images"


def compare() -> None:
    """What `harope compare --quick` finds."""
    _write(
        "compare",
        "axial and HARoPE set side by side, briefly",
        f"Made by `{COMMAND} compare`, which is `{COMPARE}` with a page.",
        *compare_page(WORK / "compare-scenes-dit", PAGES),
    )


def heads() -> None:
    """What the heads of the released checkpoint learned."""
    _write(
        "heads",
        "What the heads of the released checkpoint learned",
        f"Made by `{COMMAND} heads`: `harope inspect` of `scenes-dit-harope`, one training, seed "
        "0. All but the attention on scenes is exact and needs no data.",
        *heads_page(WORK / "heads", PAGES),
    )


def speed() -> None:
    """What the encodings cost on this machine."""
    report = run_bench(BenchConfig(), WORK / "speed")
    (PAGES / "speed.png").write_bytes((WORK / "speed" / "bench.png").read_bytes())
    _write(
        "speed",
        "What the encodings cost",
        f"Made by `{COMMAND} speed`; `harope bench --quick` measures the first two tables in three "
        "minutes. All works of a table run in one process, one after the other in every round; a "
        "ratio is taken round by round, its median and quartiles are shown. Between runs ratios "
        "differ by more than these quartiles (docs/log.md): one run proves no goal.",
        [("", "machine"), *report.machine.items()],
        "## Goals",
        goal_table(report),
        "## Times",
        "Rotations of float32 queries (16, 12, 256, 64); `half` pairs channel i with i + 32. "
        "`diffusers, complex` is its form for complex tables, on (batch, tokens, heads, channels). "
        "Steps and forwards: DiT-S/2, batch 8, 256 tokens, float32.",
        time_table(report),
        "## Growth",
        "A rotation around 4 samples of 12 heads of 256 tokens with 64 channels, one size at a "
        "time.",
        "![growth](speed.png)",
        "GPU: not measured.",
    )


def _scores_rows(columns: dict[str, Scores]) -> list[tuple[str, ...]]:
    names = list(dict.fromkeys(name for scores in columns.values() for name in scores))
    rows = [("", *columns)]
    for name in names:
        rows.append((name, *(format_proportion(scores[name]) for scores in columns.values())))
    return rows


def _write(name: str, title: str, *parts: str | Sequence[Sequence[str]]) -> None:
    """A page of paragraphs (text) and tables (lists of rows)."""
    texts = [part if isinstance(part, str) else markdown_table(part) for part in parts]
    page = PAGES / f"{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join([f"# {title}", *texts]) + "\n", encoding="utf-8")
    print(page)


if __name__ == "__main__":
    pages = {
        "scenes": scenes,
        "reader": reader,
        "fashion": fashion,
        "distances": distances,
        "memory": memory,
        "digits": digits,
        "text-to-image": text_to_image,
        "flux": flux,
        "compare": compare,
        "heads": heads,
        "speed": speed,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", choices=tuple(pages))
    pages[parser.parse_args().page]()
