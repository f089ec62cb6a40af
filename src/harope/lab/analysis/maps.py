"""Plots of maps over the offset between two tokens, for every head.

Colour maps: PuOr for values with a meaningful zero (purple below, orange above), cividis for all
others. Both can be read with red-green colour blindness.
"""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.collections import PolyCollection
from torch import Tensor

from harope.lab.reporting.plots import DIVERGING, SEQUENTIAL, save_figure

LayerMaps = Float[Tensor, "layers heads rows columns"]
ATTENTION_RANGE = 3
"""The colours range from 2^-3 to 2^3 times uniform attention."""

_CELL = 0.62
"""Size of a map in inches."""

OFFSETS = "offset of the key from the query: right dx, down dy, middle 0"


def draw_kernels(maps: LayerMaps, path: Path) -> None:
    """Plot kernels relative to their value at offset 0, on one scale.

    Args:
        maps: Kernel of every head by offset.
        path: PNG file to write.
    """
    middle = maps[..., maps.shape[-2] // 2, maps.shape[-1] // 2, None, None]
    relative = maps / middle
    scale = _Scale("kernel over its value at 0", float(relative.min()), 1.0, cmap=SEQUENTIAL)
    _draw_maps(relative.numpy(), "The encoding's kernel", scale, path)


def draw_scores(maps: LayerMaps, title: str, path: Path) -> None:
    """Plot scores on one scale that is symmetric about zero.

    Args:
        maps: Score of every head by offset.
        title: Title of the figure.
        path: PNG file to write.
    """
    limit = float(maps.abs().max()) or 1.0
    _draw_maps(maps.numpy(), title, _Scale("mean score", -limit, limit), path)


def draw_attention(maps: LayerMaps, title: str, path: Path) -> None:
    """Plot mean attention relative to uniform attention, on a logarithmic scale.

    Args:
        maps: Mean attention of every head by offset, 1 for uniform attention.
        title: Title of the figure.
        path: PNG file to write.
    """
    steps = range(-ATTENTION_RANGE, ATTENTION_RANGE + 1)
    ticks = {step: f"{2**step}" if step >= 0 else f"1/{2**-step}" for step in steps}
    limit = float(ATTENTION_RANGE)
    scale = _Scale("attention, times uniform", -limit, limit, extend="both", ticks=ticks)
    _draw_maps(np.log2(maps.clamp(min=1e-30).numpy()), title, scale, path)


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


def _draw_maps(values: np.ndarray, title: str, scale: _Scale, path: Path) -> None:
    """Plot all maps as one image, since hundreds of separate axes would take minutes."""
    layers, heads, rows, columns = values.shape
    gap = max(1, round(0.06 * rows))
    across, down = columns + gap, rows + gap
    inch = _CELL / down
    width, height = inch * (heads * across - gap), inch * (layers * down - gap)
    # Margins in inches for layer names, colour bar, titles and the offset scale.
    left, right, top, bottom = 0.62, 1.05, 0.78, 0.45
    size = (max(left + width + right, 3.2), top + max(height, 1.2) + bottom)
    figure = plt.figure(figsize=size)
    bounds = (left, size[1] - top - height, width, height)
    panel = figure.add_axes([bound / side for bound, side in zip(bounds, size * 2, strict=True)])
    canvas = np.full((layers * down - gap, heads * across - gap), np.nan)
    for (layer, head), _ in np.ndenumerate(values[:, :, 0, 0]):
        canvas[layer * down :, head * across :][:rows, :columns] = values[layer, head]
    image = panel.imshow(
        canvas, cmap=scale.cmap, vmin=scale.low, vmax=scale.high, interpolation="nearest"
    )
    _name_maps(panel, values.shape, gap)
    _draw_bar(figure, image, scale, (left + width + 0.12, top, height))
    figure.text(0.5, 1 - 0.12 / size[1], title, ha="center", va="top", fontsize=8.5)
    figure.text(0.5, 1 - 0.34 / size[1], OFFSETS, ha="center", va="top", fontsize=6)
    save_figure(figure, path)


def _name_maps(panel: Any, shape: tuple[int, ...], gap: int) -> None:
    """Draw frames, the names of layers and heads, and the offset scale below the last row."""
    layers, heads, rows, columns = shape
    x0, y0 = np.arange(heads) * (columns + gap) - 0.5, np.arange(layers) * (rows + gap) - 0.5
    frames = [
        [(x, y), (x + columns, y), (x + columns, y + rows), (x, y + rows)] for y in y0 for x in x0
    ]
    panel.add_collection(
        PolyCollection(frames, facecolors="none", edgecolors="black", linewidths=0.4, clip_on=False)
    )
    panel.spines[:].set_visible(False)
    panel.xaxis.tick_top()
    panel.tick_params(length=0, labelsize=7, pad=2)
    names = [f"head {head}" if heads <= 8 else str(head) for head in range(heads)]
    panel.set_xticks(x0 + columns / 2, names if heads > 1 else [""])
    panel.set_yticks(
        y0 + rows / 2, [f"layer {n}" for n in range(layers)] if layers > 1 else ["all layers"]
    )
    reach = (columns - 1) // 2
    for offset in (-reach, 0, reach):
        panel.annotate(
            str(offset), (reach + offset, y0[-1] + rows), (0, -2), textcoords="offset points",
            ha="center", va="top", fontsize=6,
        )  # fmt: skip
    panel.annotate(
        "dx, tokens", (reach, y0[-1] + rows), (0, -10), textcoords="offset points",
        ha="center", va="top", fontsize=6,
    )  # fmt: skip


def _draw_bar(figure: Any, image: Any, scale: _Scale, place: tuple[float, float, float]) -> None:
    """Draw the colour bar. `place` is its left edge, and top and height of the maps, in inches."""
    (left, top, height), (width, tall) = place, figure.get_size_inches()
    length = min(max(height, 1.2), 2.6)
    low = tall - top - (max(height, 1.2) + length) / 2
    axes = figure.add_axes([left / width, low / tall, 0.12 / width, length / tall])
    bar = figure.colorbar(image, cax=axes, extend=scale.extend)
    if scale.ticks:
        bar.set_ticks(list(scale.ticks), labels=list(scale.ticks.values()))
    bar.set_label(scale.label, fontsize=7)
    bar.ax.tick_params(labelsize=6)
