"""The scripts of the result pages: they can be imported, and write pages of text and tables."""

import importlib
from pathlib import Path

import pytest

from harope.rope import list_encodings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def page(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("scripts.results.page")
    monkeypatch.setattr(module, "PAGES", tmp_path / "pages")
    return module


def test_every_page_has_a_script_and_is_in_the_documentation(page):
    pages = importlib.import_module("scripts.results.__main__").PAGES
    written = {path.stem for path in (ROOT / "docs" / "results").glob("*.md")}
    # `make soak` writes this page, see tests/soak.
    assert written | {"encodings"} == {*pages, "reliability"}


def test_the_page_of_encodings_is_that_of_the_code(page):
    module = importlib.import_module("scripts.results.encodings")
    assert (ROOT / module.PAGE).read_text(encoding="utf-8") == module.page_text()
    pictures = {path.stem for path in (ROOT / module.IMAGES).glob("*.png")}
    assert pictures == set(list_encodings()) - {"none", "ape", "ape-learned"}


def test_pages_are_made_of_paragraphs_and_tables(page, tmp_path):
    page.write_page("name", "Title", "A paragraph.", [("a", "b"), ("1", "2")])
    text = (tmp_path / "pages" / "name.md").read_text()
    assert text.startswith("# Title\n\nA paragraph.\n\n| a | b |\n")
    assert text.endswith("| 1 | 2 |\n")
