"""Files that pages link to or name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
NAMED = re.compile(
    r"`((?:src|tests|scripts|docs|examples|benchmarks)/[\w./-]+|\w+\.(?:md|toml|txt|cff))`"
)
# Pages that say how to add a file, and where things are.
MAPS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    links = [link.strip("<>") for link in LINK.findall(page.read_text(encoding="utf-8"))]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", MAPS)
def test_files_that_maps_of_the_tree_name_exist(page):
    names = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    assert names or page == "SECURITY.md"
    assert [name for name in names if not (ROOT / name).exists()] == []
