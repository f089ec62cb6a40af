"""What the heads of the released HARoPE checkpoint learned: `harope inspect` as a page."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from harope.report.heads_page import write_heads
from harope.report.heads_tables import (
    MEANINGS,
    change_rows,
    cost_rows,
    distance_rows,
    head_rows,
)
from harope.report.inspection import inspect_subject
from harope.report.opening import open_subject

PICTURES = (
    "spectrum-q-and-k",
    "similarity",
    "kernels",
    "scores",
    "scores-before",
    "attention-noise-0.5",
    "distances",
)

Part = str | Sequence[Sequence[str]]


def heads_page(work: Path, pages: Path) -> list[Part]:
    """Paragraphs and tables of the page; its pictures go beside it as `heads-*.png`."""
    released = Path(str(files("harope").joinpath("released", "scenes-dit-harope")))
    found = inspect_subject(open_subject(released), num_images=16)
    write_heads(found, work)
    for name in PICTURES:
        (pages / f"heads-{name}.png").write_bytes((work / f"{name}.png").read_bytes())
    return [
        "## Matrices",
        MEANINGS,
        head_rows(found),
        _picture("spectrum-q-and-k"),
        "A turns much and stretches little: singular values stay within a factor of three, while "
        "the nearest rotation is far from the identity, and a fifth to nearly a third of A's "
        "squared entries joins one axis to the other (of a random matrix: half).",
        _picture("similarity"),
        "## Receptive fields without data",
        "The encoding's kernel, trace(A^T R(offset) A) / head_dim: what A stretches weighs more. A "
        "rotation does not show here, so all heads stay close to the cross of axial RoPE.",
        _picture("kernels"),
        "With the projections of queries and keys, the score of two tokens of one content: heads "
        "that see rows, columns and lattices. What the condition adds to the weights is left out.",
        _picture("scores"),
        "The same with the weights that the seed drew, on a scale of its own.",
        _picture("scores-before"),
        "## Receptive fields on real inputs",
        "Attention on 16 scenes at the middle of the flow. From layer 3 on most heads look at "
        "their neighbourhood, and faintly again about six tokens away; the fastest pair of each "
        "axis has a period of 2 pi tokens. Below, the mean distance attended over in tokens, by "
        "noise level.",
        _picture("attention-noise-0.5"),
        distance_rows(found),
        _picture("distances"),
        "## Since the start of the training",
        "Norm of the difference over the norm at the start.",
        change_rows(found),
        "## What the attention costs",
        f"One image of {found.costs.tokens} tokens; formulas in `evaluation/cost.py`.",
        cost_rows(found.costs),
    ]


def _picture(name: str) -> str:
    return f"![{name}](heads-{name}.png)"
