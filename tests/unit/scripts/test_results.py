"""The scripts of the result pages: they can be imported, and write pages of text and tables."""

import importlib
import json
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


REPORT = {
    "parts": {
        "environment": {"gpu": "NVIDIA H100", "torch": "2.11.0"},
        "rotation_accuracy": {"worst_roundings": 0.9, "wrong_or_failed": {}},
        "kernel_speed": {
            "dit-b 256 bfloat16": {
                "copy": {"ms": 0.17, "gb_per_s": 2900},
                "copy of packed": {"ms": 0.2, "gb_per_s": 2500},
                "kernel, dense": {"ms": 0.2, "gb_per_s": 2500},
                "kernel, packed": "OutOfResources: shared | memory",
                "normed kernel, packed": {"ms": 0.25},
                "normed eager torch, packed": {"ms": 1.5},
            }
        },
        "dit_compiled": {
            "harope": {"images_per_s": 2100.0, "ms": 121.9},
            "axial": {"images_per_s": 2150.0, "ms": 119.1},
        },
    },
    "failed": {"study": "skipped: 12 s left"},
}


def test_the_page_of_a_gpu_compares_a_report_with_the_goals(page):
    gpu = importlib.import_module("scripts.results.gpu")
    rows = {row[0]: row[2:] for row in gpu.goal_rows(REPORT["parts"])}
    assert [rows[goal.text] for goal in gpu.GOALS] == [
        ("0.85", "met"),
        ("not measured", ""),
        ("6", "met"),
        ("1.024", "missed"),
        ("not measured", ""),
        ("2100", "met"),
    ]


def test_the_page_of_a_gpu_says_what_was_not_measured(page, tmp_path):
    gpu = importlib.import_module("scripts.results.gpu")
    text = gpu.format_page(None)
    assert "**Not measured**" in text
    assert text.count("| not measured |") == len(gpu.GOALS)
    (tmp_path / "gpu.json").write_text(json.dumps(REPORT))
    gpu.write_report(tmp_path / "gpu.json", tmp_path / "gpu.md")
    text = (tmp_path / "gpu.md").read_text()
    assert "**Not measured**" not in text
    assert "| study | skipped: 12 s left |" in text
    assert "OutOfResources: shared \\| memory" in text


def test_the_page_of_a_gpu_is_up_to_date(page):
    gpu = importlib.import_module("scripts.results.gpu")
    stored = ROOT / "docs" / "results" / "gpu.json"
    report = json.loads(stored.read_text()) if stored.is_file() else None
    assert stored.with_suffix(".md").read_text() == gpu.format_page(report)
