"""Self-contained HTML pages of text, tables and images."""

import base64
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from harope._utils.atomic import write_text_atomic


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a page: a heading, and optionally text, a table, images and code."""

    title: str
    """Heading."""
    text: tuple[str, ...] = ()
    """Paragraphs."""
    table: tuple[tuple[str, ...], ...] = ()
    """Rows of the table; the first has the column titles."""
    images: tuple[tuple[str, Path], ...] = ()
    """Caption and PNG file of each image."""
    code: str = ""
    """Commands, shown verbatim."""
    wide: bool = False
    """Whether images, such as plots, may be as wide as the page."""
    pixels: bool = False
    """Whether images consist of small samples, whose pixels are shown as sharp squares."""


def write_page(title: str, lead: str, sections: list[Section], path: Path) -> Path:
    """Write a page with embedded images.

    Args:
        title: Title and heading of the page.
        lead: Paragraph below the heading.
        sections: Contents of the page.
        path: HTML file to write.

    Returns:
        The path.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["data_url"] = _data_url
    template = environment.from_string(
        files("harope.lab.reporting").joinpath("page.html").read_text()
    )
    write_text_atomic(path, template.render(title=title, lead=lead, sections=sections))
    return path


def _data_url(image: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(image.read_bytes()).decode()}"
