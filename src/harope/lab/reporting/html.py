"""One self-contained HTML page: text, tables and pictures."""

import base64
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with text, tables and pictures under it, each optional."""

    title: str
    """Heading."""
    text: tuple[str, ...] = ()
    """Paragraphs."""
    table: tuple[tuple[str, ...], ...] = ()
    """Rows, the first being the heads of the columns."""
    pictures: tuple[tuple[str, Path], ...] = ()
    """Captions and PNG files."""
    code: str = ""
    """Commands, shown as they are."""
    wide: bool = False
    """Whether pictures may be as wide as the page and are smoothed: for plots."""


def write_page(title: str, lead: str, sections: list[Section], path: Path) -> Path:
    """Write the page, with its pictures inside it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["data_url"] = _data_url
    template = environment.from_string(
        files("harope.lab.reporting").joinpath("page.html").read_text()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(title=title, lead=lead, sections=sections), encoding="utf-8")
    return path


def _data_url(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
