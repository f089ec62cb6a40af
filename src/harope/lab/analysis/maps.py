"""Plots of maps over the offset between two tokens, for every head.

Colour maps: PuOr for values with a meaningful zero (purple below, orange above), cividis for all
others. Both can be read with red-green colour blindness.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor

from harope.lab.reporting.style import DIVERGING, INK, SEQUENTIAL, hover, save_figure

LayerMaps = Float[Tensor, "layers heads rows columns"]
ATTENTION_RANGE = 3
"""The colours range from 2^-3 to 2^3 times uniform attention."""

_CELL = 0.82
"""Size of a map in inches."""

OFFSETS = "offset of the key from the query: right dx, down dy, middle 0"


def draw_kernels(maps: LayerMaps, path: Path) -> None:
    """Plot kernels relative to their value at offset 0, on one scale.

    Args:
        maps: Kernel of every head by offset.
        path: SVG or PNG file to write.
    """
    middle = maps[..., maps.shape[-2] // 2, maps.shape[-1] // 2, None, None]
    relative = maps / middle
    scale = _Scale("kernel over its value at 0", float(relative.min()), 1.0, cmap=SEQUENTIAL)
    values = relative.numpy()
    _draw_maps(values, "The encoding's kernel", scale, path, _Names.of(values))


def draw_scores(maps: LayerMaps, title: str, path: Path) -> None:
    """Plot scores on one scale that is symmetric about zero.

    Args:
        maps: Score of every head by offset.
        title: Title of the figure.
        path: SVG or PNG file to write.
    """
    limit = float(maps.abs().max()) or 1.0
    values = maps.numpy()
    _draw_maps(values, title, _Scale("mean score", -limit, limit), path, _Names.of(values))


def draw_attention(
    maps: LayerMaps,
    title: str,
    path: Path,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """Plot mean attention relative to uniform attention, on a logarithmic scale.

    Args:
        maps: Mean attention of every head by offset, 1 for uniform attention.
        title: Title of the figure.
        path: SVG or PNG file to write.
        rows: Names of the rows, if they are not layers.
        columns: Names of the columns, if they are not the heads of a layer.
    """
    steps = range(-ATTENTION_RANGE, ATTENTION_RANGE + 1)
    ticks = {step: f"{2**step}" if step >= 0 else f"1/{2**-step}" for step in steps}
    limit = float(ATTENTION_RANGE)
    scale = _Scale("attention, times uniform", -limit, limit, extend="both", ticks=ticks)
    names = _Names.of(maps.numpy(), rows, columns)
    _draw_maps(np.log2(maps.clamp(min=1e-30).numpy()), title, scale, path, names, exponent=True)


@dataclass(frozen=True)
class _Scale:
    """Colour scale of all maps of a figure."""

    label: str
    low: float
    high: float
    _: KW_ONLY
    cmap: str = DIVERGING
    extend: str = "neither"
    ticks: dict[int, str] | None = None


@dataclass(frozen=True)
class _Names:
    """Names of the rows and columns of a figure."""

    rows: Sequence[str]
    columns: Sequence[str]

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        rows: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> "_Names":
        """Return the given names, or those of layers and heads."""
        layers, heads = values.shape[:2]
        if rows is None:
            rows = [f"layer {n}" for n in range(layers)] if layers > 1 else ["all layers"]
        if columns is None:
            columns = [f"head {n}" if heads <= 8 else str(n) for n in range(heads)]
            columns = columns if heads > 1 else [""]
        return cls(rows, columns)


def _draw_maps(
    values: np.ndarray,
    title: str,
    scale: _Scale,
    path: Path,
    names: _Names,
    *,
    exponent: bool = False,
) -> None:
    """Plot all maps as one image, since hundreds of separate axes would take minutes.

    With `exponent`, the values are base 2 logarithms of what the mouse pointer shows.
    """
    layers, heads, rows, columns = values.shape
    gap = max(1, round(0.06 * rows))
    across, down = columns + gap, rows + gap
    inch = _CELL / down
    width, height = inch * (heads * across - gap), inch * (layers * down - gap)
    # Margins in inches for layer names, colour bar, titles and the offset scale.
    left, right, top, bottom = 0.8, 1.35, 0.98, 0.6
    size = (max(left + width + right, 5.2), top + max(height, 1.2) + bottom)
    figure = plt.figure(figsize=size)
    bounds = (left, size[1] - top - height, width, height)
    panel = figure.add_axes([bound / side for bound, side in zip(bounds, size * 2, strict=True)])
    canvas = np.full((layers * down - gap, heads * across - gap), np.nan)
    for (layer, head), _ in np.ndenumerate(values[:, :, 0, 0]):
        canvas[layer * down :, head * across :][:rows, :columns] = values[layer, head]
    image = panel.imshow(
        canvas, cmap=scale.cmap, vmin=scale.low, vmax=scale.high, interpolation="none"
    )
    _name_maps(panel, values, names, gap)
    _frame_maps(panel, np.exp2(values) if exponent else values, names, gap)
    _draw_bar(figure, image, scale, (left + width + 0.14, top, height))
    figure.text(0.5, 1 - 0.12 / size[1], title, ha="center", va="top", fontsize=10.5)
    figure.text(0.5, 1 - 0.4 / size[1], OFFSETS, ha="center", va="top", fontsize=8)
    save_figure(figure, path)


def _name_maps(panel: Any, values: np.ndarray, names: _Names, gap: int) -> None:
    """Write the names of rows and columns, and the offset scale below the last row."""
    rows, columns = values.shape[2:]
    x0, y0 = _corners(values, gap)
    panel.spines[:].set_visible(False)
    panel.xaxis.tick_top()
    panel.tick_params(length=0, labelsize=9, pad=2)
    panel.set_xticks(x0 + columns / 2, names.columns)
    panel.set_yticks(y0 + rows / 2, names.rows)
    reach = (columns - 1) // 2
    for offset in (-reach, 0, reach):
        panel.annotate(
            str(offset), (reach + offset, y0[-1] + rows), (0, -2), textcoords="offset points",
            ha="center", va="top", fontsize=8,
        )  # fmt: skip
    panel.annotate(
        "dx, tokens", (reach, y0[-1] + rows), (0, -10), textcoords="offset points",
        ha="center", va="top", fontsize=8,
    )  # fmt: skip


def _frame_maps(panel: Any, values: np.ndarray, names: _Names, gap: int) -> None:
    """Draw a frame around every map, which says the extremes of the map."""
    layers, heads, rows, columns = values.shape
    x0, y0 = _corners(values, gap)
    for layer, head in np.ndindex(layers, heads):
        frame = Rectangle(
            (float(x0[head]), float(y0[layer])), columns, rows,
            edgecolor=INK, linewidth=0.4, clip_on=False,
            # Nearly invisible, but unlike no filling it is there for the mouse pointer.
            facecolor=(1, 1, 1, 0.004),
        )  # fmt: skip
        name = f"{names.rows[layer]}, {names.columns[head]}".replace("\n", ", ")
        hover(frame, _describe(values[layer, head], name))
        panel.add_patch(frame)


def _corners(values: np.ndarray, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the left edges of the columns of maps, and the upper edges of their rows."""
    layers, heads, rows, columns = values.shape
    return np.arange(heads) * (columns + gap) - 0.5, np.arange(layers) * (rows + gap) - 0.5


def _describe(values: np.ndarray, name: str) -> str:
    """Name the extremes of a map with their offsets."""
    middle = np.array(values.shape) // 2
    highest, lowest = (
        np.array(np.unravel_index(index, values.shape))
        for index in (values.argmax(), values.argmin())
    )
    parts = [
        f"{title} {values[tuple(place)]:.3g} at dy {place[0] - middle[0]}, "
        f"dx {place[1] - middle[1]}"
        for title, place in (("highest", highest), ("lowest", lowest))
    ]
    return f"{name}: {', '.join(parts)}"


def _draw_bar(figure: Any, image: Any, scale: _Scale, place: tuple[float, float, float]) -> None:
    """Draw the colour bar. `place` is its left edge, and top and height of the maps, in inches."""
    (left, top, height), (width, tall) = place, figure.get_size_inches()
    length = min(max(height, 1.2), 2.6)
    low = tall - top - (max(height, 1.2) + length) / 2
    axes = figure.add_axes([left / width, low / tall, 0.12 / width, length / tall])
    bar = figure.colorbar(image, cax=axes, extend=scale.extend)
    if scale.ticks:
        bar.set_ticks(list(scale.ticks), labels=list(scale.ticks.values()))
    bar.set_label(scale.label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
