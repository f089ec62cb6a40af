"""What the heads of the released HARoPE checkpoint learned: `harope inspect` as a page."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from torch import Tensor

from harope.lab.analysis.inspection import Inspection, MatrixStatistics, inspect_model
from harope.lab.analysis.load import load_inspected_model
from harope.lab.analysis.page import uniform_distance, write_heads
from harope.lab.analysis.tables import (
    MEANINGS,
    change_rows,
    cost_rows,
    cost_title,
    distance_rows,
    head_rows,
)

PICTURES = (
    "spectrum-q-and-k",
    "similarity",
    "kernels",
    "scores",
    "scores-before",
    "attention-noise-0.5",
    "distances",
)

NUM_IMAGES, MIDDLE = 16, "noise 0.5"

Part = str | Sequence[Sequence[str]]


def heads_page(work: Path, pages: Path) -> list[Part]:
    """Paragraphs and tables of the page; its pictures go beside it as `heads-*.png`."""
    released = Path(str(files("harope.lab").joinpath("checkpoints", "scenes-dit-harope")))
    found = inspect_model(load_inspected_model(released), num_images=NUM_IMAGES)
    write_heads(found, work)
    for name in PICTURES:
        (pages / f"heads-{name}.png").write_bytes((work / f"{name}.png").read_bytes())
    return [
        "## Matrices",
        MEANINGS,
        head_rows(found),
        _picture("spectrum-q-and-k"),
        _of_matrices(found.matrices["q and k"]),
        _picture("similarity"),
        "## Receptive fields without data",
        "The encoding's kernel, trace(A^T R(offset) A) / head_dim: what A stretches weighs more. A "
        "rotation leaves it the cross of axial RoPE.",
        _picture("kernels"),
        "With the projections of queries and keys, the score of two tokens of one content. What "
        "the condition adds to the weights is left out.",
        _picture("scores"),
        "The same with the weights that the seed drew, on a scale of its own.",
        _picture("scores-before"),
        "## Receptive fields on real inputs",
        f"Attention on {NUM_IMAGES} scenes at the middle of the flow. {_of_attention(found)} "
        "Below, the mean distance attended over in tokens, by noise level.",
        _picture("attention-noise-0.5"),
        distance_rows(found),
        _picture("distances"),
        "## Since the start of the training",
        "Norm of the difference over the norm at the start.",
        change_rows(found),
        "## What the attention costs",
        f"{cost_title(found.costs)}; formulas in `evaluation/cost.py`.",
        cost_rows(found.costs),
    ]


def _of_matrices(numbers: MatrixStatistics) -> str:
    values, mixing = numbers.singular_values, numbers.axis_mixing
    assert mixing is not None
    condition = float((values[..., 0] / values[..., -1]).max())
    return (
        f"How much A turns: the nearest rotation is {_range(numbers.turn)} from the identity, 2 "
        "being half turns of all planes. How much it stretches: A itself is "
        f"{_range(numbers.from_rotation)} from that rotation, and no head has a condition above "
        f"{condition:.2f}. {_range(100 * mixing, 0)} % of A's squared entries join one axis to the "
        "other, of a random matrix 50 %."
    )


def _of_attention(found: Inspection) -> str:
    """Which layers look near, and where their heads look again."""
    measured, uniform = found.attention[MIDDLE], uniform_distance(found)
    near = measured.distance < uniform / 2
    layers = [str(layer) for layer, heads in enumerate(near.float().mean(dim=1)) if heads > 0.5]
    middle_row = measured.maps[near].mean(dim=0)[found.sizes[0] - 1]
    # Beyond the neighbourhood around offset 0.
    beyond = middle_row[found.sizes[1] - 1 :][3:]
    return (
        f"{int(near.sum())} of {near.numel()} heads look less than half as far as uniform "
        f"attention would ({uniform:.2f} tokens): most of the layers {', '.join(layers)}. Along "
        f"the row these look once more at dx = {3 + int(beyond.argmax())}, with "
        f"{float(beyond.max()):.2f} times what uniform attention pays; the fastest pair of each "
        "axis has a period of 2 pi tokens."
    )


def _range(values: Tensor, digits: int = 2) -> str:
    return f"{float(values.min()):.{digits}f} to {float(values.max()):.{digits}f}"


def _picture(name: str) -> str:
    return f"![{name}](heads-{name}.png)"
