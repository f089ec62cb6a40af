"""Pictures of what heads learned, as PNG files.

Colours: PuOr where zero has a meaning (purple below, orange above), cividis elsewhere; both are told
apart without red and green.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from torch import Tensor

from harope.report.plots import COLORS

LayerMaps = Float[Tensor, "layers heads rows columns"]
DIVERGING, SEQUENTIAL = "PuOr_r", "cividis"
ATTENTION_RANGE = 3
"""Attention is shown from 2^-3 to 2^3 times what uniform attention pays."""

_CELL = 0.62
"""Inches of a map."""


def draw_signed_maps(maps: LayerMaps, title: str, label: str, path: Path) -> None:
    """Maps on one scale that is symmetric about zero."""
    largest = float(maps.abs().max()) or 1.0
    _draw_maps(maps.numpy(), title, label, path, limit=largest)


def draw_attention_maps(maps: LayerMaps, title: str, path: Path) -> None:
    """Mean attention over what uniform attention pays, on a logarithmic scale."""
    values = np.log2(maps.clamp(min=1e-30).numpy())
    ticks = range(-ATTENTION_RANGE, ATTENTION_RANGE + 1)
    names = [f"{2**tick}×" if tick >= 0 else f"1/{2**-tick}" for tick in ticks]

    def name_ticks(bar: Any) -> None:
        bar.set_ticks(list(ticks), labels=names)

    label = "attention, times uniform"
    _draw_maps(values, title, label, path, limit=ATTENTION_RANGE, extend="both", finish=name_ticks)


def _draw_maps(
    values: np.ndarray,
    title: str,
    label: str,
    path: Path,
    *,
    limit: float,
    extend: str = "neither",
    finish: Callable[[Any], None] = lambda bar: None,
) -> None:
    layers, heads, rows, columns = values.shape
    figure, cells = plt.subplots(
        layers,
        heads,
        squeeze=False,
        # Room for the title, the colour bar and the names around the maps.
        figsize=(max(_CELL * heads * columns / rows, 2.2) + 1.7, max(_CELL * layers, 1.2) + 0.9),
        layout="constrained",
    )
    reach_y, reach_x = (rows - 1) / 2, (columns - 1) / 2
    extent = (-reach_x - 0.5, reach_x + 0.5, reach_y + 0.5, -reach_y - 0.5)
    for (layer, head), cell in np.ndenumerate(cells):
        image = cell.imshow(
            values[layer, head], cmap=DIVERGING, vmin=-limit, vmax=limit, extent=extent
        )
        cell.set(xticks=[], yticks=[])
        cell.spines[:].set_linewidth(0.4)
        if head == 0:
            cell.set_ylabel(f"layer {layer}", fontsize=7, rotation=0, ha="right", va="center")
        if layer == 0 and heads > 1:
            cell.set_title(f"head {head}" if heads <= 8 else str(head), fontsize=7, pad=3)
    corner = cells[-1, 0]
    corner.set_xticks([-reach_x, 0, reach_x])
    corner.yaxis.tick_right() if heads == 1 else None
    corner.tick_params(labelsize=5, length=2, pad=1)
    corner.set_xlabel("dx, tokens", fontsize=6, labelpad=1)
    bar = figure.colorbar(
        image, ax=cells, extend=extend, shrink=min(1.0, 2.6 / (_CELL * layers)), pad=0.02
    )
    finish(bar)
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=6)
    figure.suptitle(title, fontsize=8.5)
    _save(figure, path)


def draw_spectra(values: Float[Tensor, "layers heads head_dim"], title: str, path: Path) -> None:
    """Singular values of all heads, a panel per layer, the identity as a line at 1."""
    layers, heads, head_dim = values.shape
    across = min(layers, 7)
    down = -(-layers // across)
    figure, panels = plt.subplots(
        down,
        across,
        squeeze=False,
        sharex=True,
        sharey=True,
        figsize=(1.15 * across + 0.6, 1.5 * down + 0.7),
        layout="constrained",
    )
    shades = plt.get_cmap(SEQUENTIAL)(np.linspace(0, 0.85, heads))
    order = np.arange(1, head_dim + 1)
    for layer, panel in enumerate(panels.flat):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=6, length=2)
        if layer >= layers:
            panel.set_visible(False)
            continue
        panel.axhline(1, color="0.6", linewidth=0.8, linestyle="--")
        for head in range(heads):
            panel.plot(order, values[layer, head], color=shades[head], linewidth=1)
        panel.set_title(f"layer {layer}", fontsize=7, pad=3)
    panels[0, 0].set_yscale("log")
    panels[0, 0].yaxis.set_major_formatter("{x:g}")
    panels[0, 0].yaxis.set_minor_formatter("{x:g}")
    panels[0, 0].tick_params(which="minor", labelsize=6, length=1)
    panels[0, 0].set_xticks([1, head_dim])
    figure.supxlabel("singular value, the largest first", fontsize=7)
    figure.supylabel("size", fontsize=7)
    figure.suptitle(title, fontsize=8.5)
    _save(figure, path)


def draw_similarity(
    cosines: Float[Tensor, "heads heads"],
    angles: Float[Tensor, "heads heads"] | None,
    layers: int,
    path: Path,
) -> None:
    """How alike the matrices of all heads are, layer after layer, lines between the layers."""
    figure, panels = plt.subplots(
        1, 1 if angles is None else 2, squeeze=False, figsize=(7.4, 3.5), layout="constrained"
    )
    # The diagonal is 1 by definition and would dim all else.
    limit = max(float((cosines - cosines.diagonal().diag()).abs().max()), 1e-3)
    _draw_square(
        panels[0, 0],
        cosines,
        layers,
        title="cosine of A - I",
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        extend="max",
    )
    if angles is not None:
        off = angles[~np.eye(len(angles), dtype=bool)]
        _draw_square(
            panels[0, 1],
            angles,
            layers,
            title="mean angle between what feeds the slowest planes, °",
            cmap=SEQUENTIAL,
            vmin=float(off.min()) if len(off) else 0,
            vmax=max(float(angles.max()), 1e-3),
            extend="min",
        )
    figure.suptitle("Similarity of heads, all layers", fontsize=8.5)
    _save(figure, path)


def _draw_square(panel: Any, values: Tensor, layers: int, *, title: str, **options: Any) -> None:
    heads = len(values) // layers
    extend = options.pop("extend")
    image = panel.imshow(values, **options)
    for edge in range(1, layers):
        panel.axhline(edge * heads - 0.5, color="white", linewidth=0.6)
        panel.axvline(edge * heads - 0.5, color="white", linewidth=0.6)
    middles = [(layer + 0.5) * heads - 0.5 for layer in range(layers)]
    panel.set_xticks(middles, [str(layer) for layer in range(layers)], fontsize=6)
    panel.set_yticks(middles, [str(layer) for layer in range(layers)], fontsize=6)
    panel.tick_params(length=0)
    panel.set(xlabel="layer", ylabel="layer")
    panel.xaxis.label.set_size(7)
    panel.yaxis.label.set_size(7)
    panel.set_title(title, fontsize=7.5)
    bar = panel.figure.colorbar(image, ax=panel, extend=extend, shrink=0.85)
    bar.ax.tick_params(labelsize=6)


def draw_distances(distances: dict[str, Float[Tensor, "layers heads"]], path: Path) -> None:
    """Mean distance attended over by layer, a dot per head and a line through the medians."""
    figure, panel = plt.subplots(figsize=(6.0, 2.8), layout="constrained")
    for place, (name, values) in enumerate(distances.items()):
        color = COLORS[place % len(COLORS)]
        layers, heads = values.shape
        shift = (place - (len(distances) - 1) / 2) * 0.16
        x = np.arange(layers) + shift
        panel.plot(x, np.median(values, axis=1), color=color, linewidth=1.2, label=name)
        panel.plot(np.repeat(x, heads), values.flatten(), "o", color=color, ms=3, alpha=0.7)
    panel.set_xticks(range(layers))
    panel.set_xlabel("layer", fontsize=8)
    panel.set_ylabel("mean distance, tokens", fontsize=8)
    panel.tick_params(labelsize=7)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25, linewidth=0.5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=7)
    panel.set_title("How far heads look: dots are heads, lines medians", fontsize=8.5)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
