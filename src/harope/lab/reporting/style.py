"""The style of all plots: colours, markers, axes, and writing of figures as SVG or PNG files.

An SVG file is sharp at any size and has no background. Its ink is light where the reader prefers a
dark colour scheme, inside a page and as a file of its own, and artists that were named by `hover`
show their text under the mouse pointer.
"""

import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Palette of Okabe and Ito, readable with colour blindness."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Markers, so that no curve is known by its colour alone. There is one more than there are colours,
so that pairs of colour and marker do not repeat soon."""
DASHES = ("-", "--", ":", "-.")
"""Line styles, so that a curve is seen below one that coincides with it."""
DIVERGING, SEQUENTIAL = "PuOr_r", "cividis"
"""Colour maps for values with a meaningful zero and for others, readable with red-green colour
blindness."""
PAPER = "#ffffff"
"""Colour that SVG files replace by that of the page."""
INK = "#000000"
"""Colour of lines and texts, which SVG files replace by that of the page's text."""

_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_BLUE = COLORS[0].lower()
_REPLACED = {INK: "currentColor", PAPER: "var(--paper)", _BLUE: "var(--blue)"}
_THEME = f"""<style>
svg {{ color: #1b1b1b; --paper: #ffffff; --blue: {_BLUE}; font-family: {_FONTS}; }}
@media (prefers-color-scheme: dark) {{
svg {{ color: #e4e4e4; --paper: #15171b; --blue: #4aa8e0; }} }}
svg image {{ image-rendering: pixelated; }}
</style>"""
_HOVER = "hover:"


def line_style(place: int) -> dict[str, Any]:
    """Return colour, dashes and width of a curve.

    Later curves are thinner and dashed, so that earlier ones show where both coincide.

    Args:
        place: Place of the curve in its plot, from 0.

    Returns:
        Arguments of `Axes.plot`.
    """
    return {
        "color": COLORS[place % len(COLORS)],
        "linestyle": DASHES[place % len(DASHES)],
        "linewidth": 2.4 if place == 0 else 1.7,
    }


def marker_style(place: int) -> dict[str, Any]:
    """Return colour and marker of a series of points.

    Args:
        place: Place of the series in its plot, from 0.

    Returns:
        Arguments of `Axes.plot`.
    """
    return {"color": COLORS[place % len(COLORS)], "marker": MARKERS[place % len(MARKERS)]}


def plain_axes(axes: Any, *, grid: str = "both") -> None:
    """Remove the frame at the top and on the right, and draw a faint grid.

    Args:
        axes: Axes of matplotlib.
        grid: Axis with grid lines: "x", "y" or "both".
    """
    axes.grid(axis=grid, which="both", color=INK, alpha=0.13, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def hover(artist: Any, text: str) -> None:
    """Show a text under the mouse pointer, in SVG files.

    Args:
        artist: Artist of matplotlib, such as a line or a marker.
        text: One line of text.
    """
    artist.set_gid(_HOVER + text)


def save_figure(figure: Any, path: Path, *, dpi: int = 150) -> None:
    """Write a figure as an SVG or a PNG file, by the ending of the path, and close it.

    Args:
        figure: Figure of matplotlib.
        path: File to write; its folder is created.
        dpi: Pixels per inch of a PNG file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        # Without a date and with a salt, equal figures give equal files.
        with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
            figure.savefig(path, transparent=True, metadata={"Date": None})
        path.write_text(_themed(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        figure.savefig(path, dpi=dpi)
    plt.close(figure)


def _themed(svg: str) -> str:
    """Let colours follow the page, and turn the names of artists into titles."""
    for color, replacement in _REPLACED.items():
        svg = re.sub(rf"(?<=: ){color}\b", replacement, svg)
    svg = re.sub(r"font: ([^;\"]*?) *'[^\";]*", r"font: \1 " + _FONTS, svg)
    svg = re.sub(rf"<g id=([\"']){_HOVER}(.*?)\1([^>]*)>", r"<g\3><title>\2</title>", svg)
    # The page may hold styles of its own, which those of a figure must not change.
    svg = svg.replace("*{stroke-linejoin", "svg *{stroke-linejoin")
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Texts and shapes without a colour of their own are black, which is the ink.
    return re.sub(r"<svg ([^>]*)>", rf'<svg fill="currentColor" \1>{_THEME}', svg, count=1)
