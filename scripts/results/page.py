"""What all pages of results share: folders, tables, and the Markdown file."""

from collections.abc import Sequence
from pathlib import Path

from harope.lab.reporting.tables import markdown_table

PAGES = Path("docs/results")
"""Folder of the pages and their plots."""
WORK = Path("runs/results")
"""Folder of runs and samples, which are reused if they exist."""
COMMAND = "python -m scripts.results"
"""Command that produces a page."""

Rows = list[tuple[str, ...]]
"""A table: the header, then one tuple of cells per row."""
Part = str | Sequence[Sequence[str]]
"""A paragraph or a table."""


def write_page(name: str, title: str, *parts: Part) -> None:
    """Write a page of paragraphs and tables, and print its path.

    Args:
        name: File name without extension.
        title: Heading of the page.
        parts: Paragraphs (text) and tables (sequences of rows), in order.
    """
    page = PAGES / f"{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(page_text(title, *parts), encoding="utf-8")
    print(page)


def page_text(title: str, *parts: Part) -> str:
    """Return a page of paragraphs and tables as Markdown.

    Args:
        title: Heading of the page.
        parts: Paragraphs (text) and tables (sequences of rows), in order.

    Returns:
        The page with a newline at its end.
    """
    texts = [part if isinstance(part, str) else markdown_table(part) for part in parts]
    return "\n\n".join([f"# {title}", *texts]) + "\n"
