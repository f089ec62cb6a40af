import re

import torch

from harope.lab.data.image_io import save_grid
from harope.lab.metrics.intervals import Proportion
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.plots import plot_losses
from harope.lab.reporting.tables import (
    markdown_table,
    score_rows,
    scores_table,
    text_table,
)
from support.page import checked_page


def test_a_page_is_self_contained_and_escapes_its_text(tmp_path):
    save_grid(torch.zeros(4, 3, 8, 8), tmp_path / "grid.png")
    section = Section(
        title="A < B",
        text=("x & y",),
        table=(("x",), ("1 & 2",)),
        images=(('"g" < h', tmp_path / "grid.png"),),
    )
    page = write_page("T", "lead", [section], tmp_path / "page.html").read_text()
    checked_page(page)
    assert 'alt="&quot;g&quot; &lt; h"' in page
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
    save_grid(torch.zeros(4, 3, 8, 8), tmp_path / "grid.png", scale=1, gap=0)
    images = (("g", tmp_path / "grid.png"),)
    sections = [
        Section(title="Plot", text=("t",), images=images),
        Section(title="Samples", text=("t",), images=images, zoom=3),
    ]
    page = write_page("T", "lead", sections, tmp_path / "page.html").read_text()
    checked_page(page)
    assert re.findall(r"<figure([^>]*)>", page) == ["", ' class="zoomed"']
    assert re.findall(r'<img .*width="(\d+)" height="(\d+)"', page) == [("16", "16"), ("48", "48")]
    assert "figure.zoomed img { image-rendering: pixelated; }" in page


def test_plots_are_part_of_the_page_with_the_names_of_their_curves(tmp_path):
    curves = {"a < b": [{"images": 10, "loss": 1.0}, {"images": 20, "loss": 0.5}]}
    plot_losses(curves, tmp_path / "losses.svg")
    images = (('The "loss"', tmp_path / "losses.svg"),)
    section = Section(title="Plot", text=("t",), images=images)
    page = write_page("T", "lead", [section], tmp_path / "page.html").read_text()
    assert checked_page(page) == ["a < b: loss 0.5 after 20 images"]
    assert 'aria-label="The &quot;loss&quot;"' in page
    assert "<img" not in page


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
