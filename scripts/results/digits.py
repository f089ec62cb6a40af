"""Page on digits-vit: accuracy of every encoding, at the trained resolution and at others."""

import json
from pathlib import Path

from harope.lab.evals.resolutions import resolution_scores
from harope.lab.metrics.intervals import Mean, format_mean
from harope.lab.recipes import get_recipe
from harope.lab.recipes.vit import digits_vit
from harope.lab.training.loop import train
from harope.lab.training.serialization import override
from harope.rope import list_encodings
from scripts.results.page import COMMAND, WORK, Rows, write_page

SEEDS = (0, 1, 2)
SIZES = (8, 12, 16, 24)

Scores = dict[str, dict[str, float]]
"""Accuracy by scaling method and size."""


def write_digits() -> None:
    """Train or reuse the runs, and write the page with its plots to docs/results."""
    trained, resolutions = digits_tables(WORK / "digits-vit")
    config = digits_vit()
    write_page(
        "digits",
        "digits-vit: encodings, three seeds",
        f"Produced by `{COMMAND} digits`: {config.steps} steps with batch size "
        f"{config.batch_size}, a ViT of depth {config.model.depth} and width {config.model.width} "
        "on scikit-learn's digits (8 x 8 pixels, 16 tokens), top-1 accuracy in per cent on the 359 "
        "held-out images. For a given seed, all encodings start from the same weights and see the "
        "same images, so differences are paired; intervals are Student's 95 % intervals over the "
        "seeds. `ape-learned` is the ViT's own position embedding; all others replace it. Depth, "
        "learning rate and mixup of the recipe were tuned by hand on the same held-out images, so "
        "the accuracies are optimistic.",
        trained,
        "## Other resolutions",
        "The held-out images are enlarged by bicubic interpolation; the model is the one trained "
        "at 8 pixels. Cells are means over the seeds with half the width of the interval. Learned "
        "frequencies support two of the four scaling methods; timm resamples the ViT's own "
        "embedding.",
        resolutions,
        "Models with 16 tokens, trained on 1,438 images, say little about large ones: the table "
        "shows that all encodings train, not which one to choose.",
    )


def digits_tables(work: Path) -> tuple[Rows, Rows]:
    """Train and test every encoding with every seed.

    Args:
        work: Folder of the runs.

    Returns:
        Table of accuracies at the trained size with paired differences from axial, and table of
        accuracies at other sizes.
    """
    scores = {name: [_scores(name, seed, work) for seed in SEEDS] for name in list_encodings()}
    return _trained_rows(scores), _resolution_rows(scores)


def _scores(encoding: str, seed: int, work: Path) -> Scores:
    """Train and test a model, or read the scores that an earlier call stored."""
    run = work / f"{encoding}-{seed}"
    path = run / "resolutions.json"
    if not path.exists():
        config = get_recipe("digits-vit").config()
        train(override(config, {"encoding": encoding, "seed": seed}), run, quiet=True)
        scores = resolution_scores(run, SIZES)
        values = {m: {size: p.rate for size, p in row.items()} for m, row in scores.items()}
        path.write_text(json.dumps(values, indent=1) + "\n")
        print(run, flush=True)
    return json.loads(path.read_text())


def _trained_rows(found: dict[str, list[Scores]]) -> Rows:
    trained = {
        name: [_at(s, next(iter(s)), SIZES[0]) for s in runs] for name, runs in found.items()
    }
    rows: Rows = [("encoding", *(f"seed {seed}" for seed in SEEDS), "mean", "minus axial, paired")]
    for name, values in trained.items():
        pairs = [100 * (a - b) for a, b in zip(values, trained["axial"], strict=True)]
        difference = "" if name == "axial" else format_mean(Mean.of(pairs), "+.1f")
        mean = format_mean(Mean.of([100 * value for value in values]), ".1f")
        rows.append((name, *(f"{100 * value:.1f}" for value in values), mean, difference))
    return rows


def _resolution_rows(found: dict[str, list[Scores]]) -> Rows:
    rows: Rows = [("encoding", "positions", *(f"{size} px" for size in SIZES))]
    for name, runs in found.items():
        for method in runs[0]:
            columns = [Mean.of([100 * _at(run, method, size) for run in runs]) for size in SIZES]
            cells = (f"{mean.value:.1f} ± {mean.high - mean.value:.1f}" for mean in columns)
            rows.append((name, method, *cells))
    return rows


def _at(scores: Scores, method: str, size: int) -> float:
    return scores[method][str(size)]
