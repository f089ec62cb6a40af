"""Plots of singular values, similarities and attention distances of heads."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from torch import Tensor

from harope.lab.reporting.style import (
    DIVERGING,
    INK,
    PAPER,
    SEQUENTIAL,
    hover,
    marker_style,
    plain_axes,
    save_figure,
)

LINES = "one line per head, the first is dark; dashed: the identity"
_TICKS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Possible ticks of the singular values."""


def draw_spectra(values: Float[Tensor, "layers heads head_dim"], title: str, path: Path) -> None:
    """Plot the singular values of all heads, one panel per layer, with a line at 1.

    Args:
        values: Singular values in descending order.
        title: Title of the figure.
        path: SVG or PNG file to write.
    """
    layers, heads, head_dim = values.shape
    across = min(layers, 7)
    down = -(-layers // across)
    size = (max(1.35 * across, 4.6) + 0.7, 1.5 * down + 1.25)
    figure, panels = plt.subplots(
        down, across, squeeze=False, sharex=True, sharey=True, figsize=size
    )
    figure.subplots_adjust(
        left=0.7 / size[0],
        right=1 - 0.1 / size[0],
        bottom=0.55 / size[1],
        top=1 - 0.75 / size[1],
        wspace=0.12,
        hspace=0.3,
    )
    shades = plt.get_cmap(SEQUENTIAL)(np.linspace(0, 0.85, heads))
    order = np.arange(1, head_dim + 1)
    for layer, panel in enumerate(panels.flat):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(which="both", labelsize=8, length=2)
        if layer >= layers:
            panel.set_visible(False)
            continue
        panel.axhline(1, color=INK, alpha=0.4, linewidth=0.8, linestyle="--")
        for head in range(heads):
            singular = values[layer, head]
            (line,) = panel.plot(order, singular.numpy(), color=shades[head], linewidth=1.3)
            largest, smallest = float(singular[0]), float(singular[-1])
            hover(line, f"layer {layer}, head {head}: {largest:.3f} to {smallest:.3f}")
        panel.set_title(f"layer {layer}", fontsize=9, pad=3)
    panels[0, 0].set_yscale("log")
    low, high = (float(edge) for edge in (values.min(), values.max()))
    ticks = [tick for tick in _TICKS if low <= 1.2 * tick and tick <= 1.2 * high] or [1.0]
    panels[0, 0].set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    panels[0, 0].set_yticks([], minor=True)
    panels[0, 0].set_xticks([1, head_dim])
    figure.text(0.5, 0.08 / size[1], "rank of the singular value", fontsize=9, ha="center")
    figure.text(0.08 / size[0], 0.5, "singular value", fontsize=9, va="center", rotation=90)
    figure.text(0.5, 1 - 0.08 / size[1], title, fontsize=10.5, ha="center", va="top")
    figure.text(0.5, 1 - 0.31 / size[1], LINES, fontsize=8, ha="center", va="top")
    save_figure(figure, path)


def draw_similarity(
    cosines: Float[Tensor, "heads heads"],
    angles: Float[Tensor, "heads heads"] | None,
    layers: int,
    path: Path,
) -> None:
    """Plot the similarity between the matrices of all heads, with lines between the layers.

    Args:
        cosines: Cosines of the deviations from the identity.
        angles: Mean principal angles in degrees; None for the cosines only.
        layers: Number of layers.
        path: SVG or PNG file to write.
    """
    figure, panels = plt.subplots(
        1,
        1 if angles is None else 2,
        squeeze=False,
        figsize=(9.6, 4.5) if angles is not None else (5.2, 4.5),
        layout="constrained",
    )
    # The diagonal, 1 by definition, would dominate the colour scale.
    limit = max(float((cosines - cosines.diagonal().diag()).abs().max()), 1e-3)
    _draw_square(
        panels[0, 0],
        cosines,
        layers,
        title="cosine between A - I: 1 the same change, 0 unrelated",
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
            title="degrees between what feeds the slowest planes: 90 unrelated",
            cmap=SEQUENTIAL,
            vmin=float(off.min()) if len(off) else 0,
            vmax=max(float(angles.max()), 1e-3),
            extend="min",
        )
    figure.suptitle("Similarity of heads, all layers", fontsize=10.5)
    save_figure(figure, path)


def _draw_square(panel: Any, values: Tensor, layers: int, *, title: str, **options: Any) -> None:
    heads = len(values) // layers
    extend = options.pop("extend")
    image = panel.imshow(values.numpy(), interpolation="none", **options)
    for edge in range(1, layers):
        width = min(0.6, 12 / layers)
        panel.axhline(edge * heads - 0.5, color=PAPER, linewidth=width)
        panel.axvline(edge * heads - 0.5, color=PAPER, linewidth=width)
    # More than 16 names would overlap.
    named = range(0, layers, -(-layers // 16))
    middles = [(layer + 0.5) * heads - 0.5 for layer in named]
    panel.set_xticks(middles, [str(layer) for layer in named], fontsize=8)
    panel.set_yticks(middles, [str(layer) for layer in named], fontsize=8)
    panel.tick_params(length=0)
    panel.set(xlabel="layer", ylabel="layer")
    panel.xaxis.label.set_size(9)
    panel.yaxis.label.set_size(9)
    panel.set_title(title, fontsize=9)
    bar = panel.figure.colorbar(image, ax=panel, extend=extend, shrink=0.85)
    bar.ax.tick_params(labelsize=8)


def draw_distances(
    distances: dict[str, Float[Tensor, "layers heads"]], uniform: float, path: Path
) -> None:
    """Plot mean attention distances by layer: a dot per head, and a line through the medians.

    Args:
        distances: Mean attention distance in tokens, by input.
        uniform: Distance of uniform attention.
        path: SVG or PNG file to write.
    """
    figure, panel = plt.subplots(figsize=(5.7, 3.4), layout="constrained")
    for place, (name, values) in enumerate(distances.items()):
        style = marker_style(place)
        spread = values.numpy()
        layers = len(spread)
        shift = (place - (len(distances) - 1) / 2) * 0.16
        x = np.arange(layers) + shift
        medians = np.median(spread, axis=1)
        (line,) = panel.plot(x, medians, linewidth=1.3, markevery=[], label=name, **style)
        hover(line, f"{name}, medians: {', '.join(f'{value:.2f}' for value in medians)} tokens")
        for layer, head in np.ndindex(spread.shape):
            distance = spread[layer, head]
            (dot,) = panel.plot(x[layer], distance, linestyle="", ms=4, alpha=0.75, **style)
            hover(dot, f"{name}, layer {layer}, head {head}: {distance:.2f} tokens")
    panel.axhline(
        uniform, color=INK, alpha=0.5, linewidth=1, linestyle="--", label="uniform attention"
    )
    panel.set_xticks(range(layers))
    panel.set_xlabel("layer", fontsize=9.5)
    panel.set_ylabel("mean distance, tokens", fontsize=9.5)
    panel.tick_params(labelsize=9)
    panel.set_ylim(bottom=0)
    plain_axes(panel)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    panel.set_title("How far heads look: dots are heads, lines medians", fontsize=10.5)
    save_figure(figure, path)
