"""Pictures of what heads learned, as PNG files.

Colours: PuOr where zero has a meaning (purple below, orange above), cividis elsewhere; neither asks
for telling red from green.
"""

from dataclasses import KW_ONLY, dataclass
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


OFFSETS = "offset of the key from the query: right dx, down dy, middle 0"


def draw_kernels(maps: LayerMaps, path: Path) -> None:
    """Kernels over their value at offset 0, on one scale."""
    middle = maps[..., maps.shape[-2] // 2, maps.shape[-1] // 2, None, None]
    shares = maps / middle
    scale = _Scale("kernel over its value at 0", float(shares.min()), 1.0, cmap=SEQUENTIAL)
    _draw_maps(shares.numpy(), "The encoding's kernel", scale, path)


def draw_scores(maps: LayerMaps, title: str, path: Path) -> None:
    """Scores on one scale that is symmetric about zero."""
    limit = float(maps.abs().max()) or 1.0
    _draw_maps(maps.numpy(), title, _Scale("mean score", -limit, limit), path)


def draw_attention(maps: LayerMaps, title: str, path: Path) -> None:
    """Mean attention over what uniform attention pays, on a logarithmic scale."""
    steps = range(-ATTENTION_RANGE, ATTENTION_RANGE + 1)
    ticks = {step: f"{2**step}" if step >= 0 else f"1/{2**-step}" for step in steps}
    limit = float(ATTENTION_RANGE)
    scale = _Scale("attention, times uniform", -limit, limit, extend="both", ticks=ticks)
    _draw_maps(np.log2(maps.clamp(min=1e-30).numpy()), title, scale, path)


@dataclass(frozen=True)
class _Scale:
    """Colours of all maps of a picture."""

    label: str
    low: float
    high: float
    _: KW_ONLY
    cmap: str = DIVERGING
    extend: str = "neither"
    ticks: dict[int, str] | None = None


def _draw_maps(values: np.ndarray, title: str, scale: _Scale, path: Path) -> None:
    layers, heads, rows, columns = values.shape
    figure, cells = plt.subplots(
        layers,
        heads,
        squeeze=False,
        # Room for the title, the colour bar and the names around the maps.
        figsize=(max(_CELL * heads * columns / rows, 2.2) + 1.3, max(_CELL * layers, 1.5) + 0.9),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.015)
    reach_y, reach_x = (rows - 1) / 2, (columns - 1) / 2
    extent = (-reach_x - 0.5, reach_x + 0.5, reach_y + 0.5, -reach_y - 0.5)
    for (layer, head), cell in np.ndenumerate(cells):
        image = cell.imshow(
            values[layer, head], cmap=scale.cmap, vmin=scale.low, vmax=scale.high, extent=extent
        )
        _name_map(cell, layer, head, values.shape[:2])
    corner = cells[-1, 0]
    corner.set_xticks([-reach_x, 0, reach_x], labels=[f"{-reach_x:g}", "0", f"{reach_x:g}"])
    corner.tick_params(labelsize=5, length=2, pad=1)
    corner.set_xlabel("dx, tokens", fontsize=6, labelpad=1)
    shrink = min(1.0, 2.6 / (_CELL * layers))
    bar = figure.colorbar(image, ax=cells, extend=scale.extend, shrink=shrink, pad=0.02)
    if scale.ticks:
        bar.set_ticks(list(scale.ticks), labels=list(scale.ticks.values()))
    bar.set_label(scale.label, fontsize=7)
    bar.ax.tick_params(labelsize=6)
    figure.suptitle(f"{title}\n", fontsize=8.5, linespacing=1.5)
    figure.text(0.5, 1 - 0.2 / figure.get_figheight(), OFFSETS, ha="center", va="top", fontsize=6)
    _save(figure, path)


def _name_map(cell: Any, layer: int, head: int, shape: tuple[int, ...]) -> None:
    """Names at the first row and column."""
    layers, heads = shape
    cell.set(xticks=[], yticks=[])
    cell.spines[:].set_linewidth(0.4)
    if head == 0 and layers > 1:
        cell.set_ylabel(f"layer {layer}", fontsize=7, rotation=0, ha="right", va="center")
    if layer == 0 and heads > 1:
        cell.set_title(f"head {head}" if heads <= 8 else str(head), fontsize=7, pad=3)


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
            panel.plot(order, values[layer, head].numpy(), color=shades[head], linewidth=1)
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
        off = angles.numpy()[~np.eye(len(angles), dtype=bool)]
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
    image = panel.imshow(values.numpy(), **options)
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


def draw_distances(
    distances: dict[str, Float[Tensor, "layers heads"]], uniform: float, path: Path
) -> None:
    """Mean distance attended over by layer, a dot per head and a line through the medians.

    `uniform` is what attention to all tokens alike would have.
    """
    figure, panel = plt.subplots(figsize=(6.0, 2.8), layout="constrained")
    for place, (name, values) in enumerate(distances.items()):
        color = COLORS[place % len(COLORS)]
        spread = values.numpy()
        layers, heads = spread.shape
        shift = (place - (len(distances) - 1) / 2) * 0.16
        x = np.arange(layers) + shift
        panel.plot(x, np.median(spread, axis=1), color=color, linewidth=1.2, label=name)
        panel.plot(np.repeat(x, heads), spread.flatten(), "o", color=color, ms=3, alpha=0.7)
    panel.axhline(uniform, color="0.5", linewidth=1, linestyle="--", label="uniform attention")
    panel.set_xticks(range(layers))
    panel.set_xlabel("layer", fontsize=8)
    panel.set_ylabel("mean distance, tokens", fontsize=8)
    panel.tick_params(labelsize=7)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25, linewidth=0.5)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=7, loc="outside right")
    panel.set_title("How far heads look: dots are heads, lines medians", fontsize=8.5)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
