"""Page on the heads of the released HARoPE checkpoint, analysed by `harope inspect`."""

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
from harope.lab.training.initial_weights import released_path
from scripts.results.page import COMMAND, PAGES, WORK, Part, write_page

PLOTS = (
    "spectrum-q-and-k",
    "similarity",
    "kernels",
    "scores",
    "scores-before",
    "attention-noise-0.5",
    "distances",
)

NUM_IMAGES, MIDDLE = 16, "noise 0.5"


def write_heads_page() -> None:
    """Train or reuse the runs, and write the page with its plots to docs/results."""
    write_page(
        "heads",
        "Heads of the released HARoPE checkpoint",
        f"Produced by `{COMMAND} heads`, which runs `harope inspect` on `scenes-dit-harope`, "
        "trained once with `harope-v1` (HARoPE as in its first arXiv version, A_q = A_k = A) and "
        "seed 0. Everything except the attention on scenes is exact and needs no data.",
        *heads_page(WORK / "heads", PAGES),
    )


def heads_page(work: Path, pages: Path) -> list[Part]:
    """Analyse the checkpoint, and copy the plots to the pages as `heads-*.svg`.

    Args:
        work: Folder of the analysis.
        pages: Folder of the plots.

    Returns:
        Paragraphs and tables of the page.
    """
    released = released_path("scenes-dit-harope")
    inspection = inspect_model(load_inspected_model(released), num_images=NUM_IMAGES)
    write_heads(inspection, work)
    for name in PLOTS:
        (pages / f"heads-{name}.svg").write_bytes((work / f"{name}.svg").read_bytes())
    return [
        "## Matrices",
        MEANINGS,
        head_rows(inspection),
        _plot("spectrum-q-and-k"),
        _of_matrices(inspection.matrices["q and k"]),
        _plot("similarity"),
        "## Receptive fields without data",
        "The kernel of the encoding, trace(A^T R(offset) A) / head_dim, in which directions that A "
        "stretches have more weight. If A is a rotation, the kernel is the cross of axial RoPE.",
        _plot("kernels"),
        "The expected score of two tokens with equal content, including the query and key "
        "projections but not the modulation by the condition.",
        _plot("scores"),
        "The same with the initial weights, on a different scale.",
        _plot("scores-before"),
        "## Receptive fields on real inputs",
        f"Attention on {NUM_IMAGES} scenes at the middle of the flow. {_of_attention(inspection)} "
        "The table shows the mean attention distance in tokens by noise level.",
        _plot("attention-noise-0.5"),
        distance_rows(inspection),
        _plot("distances"),
        "## Change during training",
        "Norm of the difference from the initial weights, divided by their norm.",
        change_rows(inspection),
        "## Cost of the attention",
        f"{cost_title(inspection.costs)}; formulas in `src/harope/lab/analysis/flops.py`.",
        cost_rows(inspection.costs),
    ]


def _of_matrices(numbers: MatrixStatistics) -> str:
    values, mixing = numbers.singular_values, numbers.axis_mixing
    assert mixing is not None
    condition = float((values[..., 0] / values[..., -1]).max())
    return (
        f"Rotation: the distance of the rotation nearest to A from the identity is "
        f"{_range(numbers.turn)}, where 2 means rotations by 180 degrees in all planes. "
        f"Stretching: the distance of A from that rotation is {_range(numbers.from_rotation)}, and "
        f"no head has a condition number above {condition:.2f}. {_range(100 * mixing, 0)} % of the "
        "squared entries of A connect one axis with the other; in a random matrix, 50 % do."
    )


def _of_attention(inspection: Inspection) -> str:
    """Describe which layers attend locally, and at which distance their heads attend again."""
    measured, uniform = inspection.attention[MIDDLE], uniform_distance(inspection)
    near = measured.distance < uniform / 2
    layers = [str(layer) for layer, heads in enumerate(near.float().mean(dim=1)) if heads > 0.5]
    middle_row = measured.maps[near].mean(dim=0)[inspection.sizes[0] - 1]
    # Beyond the neighbourhood around offset 0.
    beyond = middle_row[inspection.sizes[1] - 1 :][3:]
    return (
        f"The attention distance of {int(near.sum())} of {near.numel()} heads is less than half of "
        f"that of uniform attention ({uniform:.2f} tokens): most heads of the layers "
        f"{', '.join(layers)}. Along the row, these heads attend again at dx = "
        f"{3 + int(beyond.argmax())}, with {float(beyond.max()):.2f} times the probability of "
        "uniform attention; the fastest frequency of each axis has a period of 2 pi tokens."
    )


def _range(values: Tensor, digits: int = 2) -> str:
    return f"{float(values.min()):.{digits}f} to {float(values.max()):.{digits}f}"


def _plot(name: str) -> str:
    return f"![{name}](heads-{name}.svg)"
