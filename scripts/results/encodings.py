"""The page of all encodings, docs/encodings.md, with a picture of each."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from harope.lab.analysis.receptive_fields import encoding_kernel, wave_vectors
from harope.lab.reporting.style import COLORS, DIVERGING
from harope.rope import PositionalEncoding, RotaryEncoding, create_encoding, grid_positions
from harope.rope.presets import GROUPS, PRESETS, Preset
from scripts.results.page import COMMAND

PAGE, IMAGES = Path("docs/encodings.md"), Path("docs/images/encodings")
HEADS, HEAD_DIM, GRID = 12, 64, (16, 16)
SHOWN = (0, 11)
"""Heads of the pictures, where heads differ."""
LINEAR, LIMIT = 1e-3, 20.0
"""Bounds of the logarithmic axes, in radians per token."""

INTRODUCTION = f"""# All encodings

A picture, the formula and the cost of every encoding that `harope` has, sorted by what they are
made of: positions x frequencies x basis. [Methods](methods.md) has the exact formulas;
[theory](theory.md) shows why almost all of them are special cases of one. Any part can be combined
with any other by options of `create_encoding`.

Each picture shows an encoding of {HEADS} heads of {HEAD_DIM} channels on {GRID[0]} x {GRID[1]}
tokens at the start of training. Left: the wave vectors of its pairs of channels, in radians per
token, for two heads if heads differ. A pair compares tokens along its vector, and turns faster the
longer its vector is. Both axes are logarithmic away from the centre. Right: the kernel, which is
the mean score of two tokens with the same random content at each offset, from -1 (purple) to 1
(orange).

Parameters are per layer. Nothing here says which encoding trains best: that is measured in
[the study](results/study.md).

Produced by `{COMMAND} encodings`."""


def write_encodings() -> None:
    """Write docs/encodings.md and its pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in PRESETS:
        encoding = _create(name)
        if isinstance(encoding, RotaryEncoding):
            _draw(encoding, IMAGES / f"{name}.png")
    PAGE.write_text(page_text(), encoding="utf-8")
    print(PAGE)


def page_text() -> str:
    """Return the page in Markdown."""
    parts = [INTRODUCTION]
    for group in GROUPS:
        parts.append(f"## {group}")
        parts += [
            _section(name, preset) for name, preset in PRESETS.items() if preset.group == group
        ]
    return "\n\n".join(parts) + "\n"


def _create(name: str) -> PositionalEncoding:
    options: dict[str, Any] = {"grid_sizes": GRID} if name == "ape-learned" else {}
    torch.manual_seed(0)
    return create_encoding(name, num_heads=HEADS, head_dim=HEAD_DIM, **options)


def _section(name: str, preset: Preset) -> str:
    encoding = _create(name)
    config = preset.config
    count = sum(parameter.numel() for parameter in encoding.parameters())
    rows = [("Formula", f"`{preset.equation}`"), ("Source", preset.source)]
    if isinstance(encoding, RotaryEncoding):
        rows.append(("Parts", f"{config.positions} x {config.frequencies} x {config.basis}"))
    rows += [("Parameters", f"{count:,}"), ("Cost", _cost(encoding)), ("Needs", _needs(name))]
    rows += [("Code", preset.code), ("Open", preset.uncertain)]
    lines = [f"### {name}"]
    if isinstance(encoding, RotaryEncoding):
        lines.append(f"![Wave vectors and kernel of {name}](images/encodings/{name}.png)")
    formula, *others = (f"| {label} | {text} |" for label, text in rows if text)
    table = [formula, "|---|---|", *others]
    return "\n\n".join([*lines, "\n".join(table)])


def _cost(encoding: PositionalEncoding) -> str:
    if not isinstance(encoding, RotaryEncoding):
        return "nothing per layer"
    table = encoding.rotation_table(grid_positions(*GRID))
    assert table is not None
    numbers = sum(part.numel() for part in table) / (GRID[0] * GRID[1])
    shared = "for all layers" if encoding.shares_table else "in every layer"
    cost = f"a table of {numbers:,.0f} numbers per token {shared}"
    if encoding.matrices() is None:
        return cost
    return f"{cost}; the basis folds into the projections unless QK-norm is in between"


def _needs(name: str) -> str:
    axes = [str(count) for count in (1, 2, 3) if _is_defined(name, count)]
    return (
        f"positions of {', '.join(axes[:-1])} or {axes[-1]} axes"
        if axes[1:]
        else (f"positions of {axes[0]} axes")
    )


def _is_defined(name: str, num_axes: int) -> bool:
    options: dict[str, Any] = {"grid_sizes": (4,) * num_axes} if name == "ape-learned" else {}
    try:
        # 96 channels can be shared by every number of axes.
        create_encoding(name, num_heads=HEADS, head_dim=96, num_axes=num_axes, **options)
    except ValueError:
        return False
    return True


def _draw(encoding: RotaryEncoding, path: Path) -> None:
    """Draw wave vectors and kernel of an encoding, or two kernels where pairs have no angles."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.9), layout="constrained")
    try:
        vectors = wave_vectors(encoding.angles, encoding.num_axes, GRID)
    except ValueError:
        for axes, place in ((left, (4, 4)), (right, (11, 8))):
            _show(axes, _kernel_of_query(encoding, place), f"mean score with token {place}")
            axes.plot(*reversed(place), marker="+", color="black")
    else:
        _draw_vectors(left, vectors)
        with torch.no_grad():
            matrices = encoding.matrices()
        kernels = encoding_kernel(matrices, HEAD_DIM, vectors, GRID, encoding.layout)
        differ = len(kernels) > 1 and not torch.allclose(kernels[0], kernels[SHOWN[1]], atol=1e-3)
        _show(right, kernels[0], "mean score by offset" + (", first head" if differ else ""))
        rows, columns = kernels[0].shape
        ticks = [0, columns // 2, columns - 1]
        right.set_xticks(ticks, [f"{tick - columns // 2}" for tick in ticks])
        right.set_yticks(ticks, [f"{tick - rows // 2}" for tick in ticks])
    figure.savefig(path, dpi=160)
    plt.close(figure)


def _draw_vectors(axes: Axes, vectors: Tensor) -> None:
    """Draw the wave vectors (y, x) of all pairs."""
    heads = vectors.shape[1]
    shown = SHOWN if heads > 1 else (0,)
    for place, head in enumerate(shown):
        y, x = vectors[-2:, head]
        label = f"head {head + 1}" if heads > 1 else "all heads"
        axes.scatter(x, y, s=14, color=COLORS[place], marker="os"[place], alpha=0.75, label=label)
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.set_yscale("symlog", linthresh=LINEAR)
    axes.set_xlim(-LIMIT, LIMIT)
    axes.set_ylim(LIMIT, -LIMIT)
    ticks = [-1, -0.01, 0, 0.01, 1]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_title("radians per token", fontsize=9)
    axes.set_xlabel("along x", fontsize=8)
    axes.set_ylabel("along y", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.set_aspect("equal")
    axes.legend(fontsize=7, loc="lower left")


def _kernel_of_query(encoding: RotaryEncoding, place: tuple[int, int]) -> Tensor:
    """Mean scores of one token with all others, by rotating every unit vector."""
    positions = grid_positions(*GRID)
    units = torch.eye(HEAD_DIM)[:, None, None].expand(-1, HEADS, len(positions), -1)
    with torch.no_grad():
        rotated = encoding.rotate(units, units, encoding.rotation_table(positions))[0][:, 0]
    query = rotated[:, place[0] * GRID[1] + place[1]]
    return torch.einsum("ud,utd->t", query, rotated).unflatten(0, GRID) / HEAD_DIM


def _show(axes: Axes, values: Tensor, title: str) -> None:
    image = axes.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.figure.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
