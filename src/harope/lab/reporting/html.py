"""Self-contained HTML pages of text, tables and images, for wide and narrow, light and dark."""

import base64
import re
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from harope._utils.atomic import write_text_atomic

SMALLEST = 0.62
"""A plot that would have to be smaller than this fraction of its size is scrolled instead."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a page: a heading and text, then optionally images, a table, notes and code."""

    title: str
    """Heading."""
    text: tuple[str, ...] = ()
    """Paragraphs."""
    images: tuple[tuple[str, Path], ...] = ()
    """Caption and SVG or PNG file of each image."""
    table: tuple[tuple[str, ...], ...] = ()
    """Rows of the table; the first has the column titles."""
    code: str = ""
    """Code or commands, shown verbatim."""
    notes: tuple[str, ...] = ()
    """Paragraphs below the images and the table."""
    zoom: int = 0
    """For PNG files of small samples: how many times their size they are shown, with every pixel as
    a sharp square; 0 for other images."""


def write_page(title: str, lead: str, sections: list[Section], path: Path) -> Path:
    """Write a page with embedded images.

    Args:
        title: Title and heading of the page.
        lead: Paragraph below the heading: what the reader should conclude.
        sections: Contents of the page.
        path: HTML file to write.

    Returns:
        The path.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["embedded"] = _embedded
    template = environment.from_string(
        files("harope.lab.reporting").joinpath("page.html").read_text(encoding="utf-8")
    )
    write_text_atomic(path, template.render(title=title, lead=lead, sections=sections))
    return path


def _embedded(image: Path, caption: str, zoom: int) -> str:
    if image.suffix == ".svg":
        return _inline_svg(image.read_text(encoding="utf-8"), caption)
    content = image.read_bytes()
    # Width and height are the first fields of a PNG file's header.
    width, height = (
        int.from_bytes(content[start : start + 4], "big") * max(1, zoom) for start in (16, 20)
    )
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return f'<img src="{source}" alt="{escape(caption)}" width="{width}" height="{height}">'


def _inline_svg(svg: str, caption: str) -> str:
    """Return the SVG element of a file, with a text for screen readers, in CSS pixels."""
    opening, rest = svg[svg.index("<svg") :].split(">", 1)
    width, height = (
        float(re.findall(rf'\b{name}="([\d.]+)pt"', opening)[0]) * 4 / 3
        for name in ("width", "height")
    )
    opening = re.sub(r'\b(width|height)="[^"]*" ?', "", opening)
    style = f"width: {width:.0f}px; min-width: {SMALLEST * width:.0f}px"
    # The text of a hidden label is read aloud and, unlike a title, shown nowhere.
    label = escape(caption)
    aspect = f"aspect-ratio: {width:.0f} / {height:.0f}"
    return f'{opening} role="img" aria-label="{label}" style="{style}; {aspect}">{rest}'
