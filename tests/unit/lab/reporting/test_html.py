import re

import torch

from harope.lab.data.image_io import save_grid
from harope.lab.metrics.intervals import Proportion
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.tables import (
    markdown_table,
    score_rows,
    scores_table,
    text_table,
)


def test_a_page_is_self_contained_and_escapes_its_text(tmp_path):
    save_grid(torch.zeros(4, 3, 8, 8), tmp_path / "grid.png")
    sections = [
        Section(title="A < B", table=(("x",), ("1 & 2",)), images=(("g", tmp_path / "grid.png"),))
    ]
    page = write_page("T", "lead", sections, tmp_path / "page.html").read_text()
    assert "A &lt; B" in page
    assert "1 &amp; 2" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")


def test_cells_name_their_column_where_rows_become_lists(tmp_path):
    section = Section(title="A", table=(("", "FID <"), ("axial", "1.0")))
    page = write_page("T", "lead", [section], tmp_path / "page.html").read_text()
    assert '<td data-title="">axial</td><td data-title="FID &lt;">1.0</td>' in page


def test_only_small_samples_are_shown_with_sharp_pixels(tmp_path):
    save_grid(torch.zeros(4, 3, 8, 8), tmp_path / "grid.png")
    images = (("g", tmp_path / "grid.png"),)
    sections = [
        Section(title="Plot", images=images, wide=True),
        Section(title="Samples", images=images, pixels=True),
    ]
    page = write_page("T", "lead", sections, tmp_path / "page.html").read_text()
    assert re.findall(r'<figure class="([^"]*)"', page) == ["wide", " pixels"]
    assert page.count("image-rendering: pixelated") == 1
    assert "figure.pixels img { image-rendering: pixelated; }" in page


def test_tables_line_up():
    assert text_table([["a", "b"], ["ccc", "d"]]).splitlines() == ["a    b", "---  -", "ccc  d"]
    assert markdown_table([("a", "b"), ("c", "d")]) == "| a | b |\n|---|---|\n| c | d |"


def test_scores_show_rate_interval_and_trials_and_a_dash_where_there_is_none():
    table = scores_table({"one": {"exact": Proportion(9, 10)}, "two": {"other": Proportion(0, 1)}})
    row = next(line for line in table.splitlines() if line.startswith("exact"))
    assert "90.0 % [59.6, 98.2] of 10" in row
    assert row.rstrip().endswith("-")


def test_rows_of_scores_have_a_cell_per_model():
    columns = {"one": {"exact": Proportion(9, 10)}, "two": {"other": Proportion(0, 1)}}
    rows = score_rows(columns)
    assert [row[0] for row in rows] == ["", "exact", "other"]
    assert rows[1][1].startswith("90.0 %")
    assert rows[1][2] == rows[2][1] == "-"
