"""What all plots share: files that follow the page's colours, and texts for the mouse pointer."""

import re

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from harope.lab.metrics.intervals import Proportion
from harope.lab.reporting.plots import plot_costs, plot_scores
from harope.lab.reporting.style import (
    COLORS,
    INK,
    PAPER,
    hover,
    line_style,
    marker_style,
    save_figure,
)


def plotted(path):
    figure, axes = plt.subplots()
    (line,) = axes.plot([1, 2], [3, 4], color=COLORS[0])
    axes.plot([1, 2], [4, 3], "o", color=INK, markerfacecolor=PAPER)
    hover(line, 'a & b: "1" < 2')
    save_figure(figure, path)
    return path


def test_the_ink_of_an_svg_file_follows_the_colours_of_the_reader(tmp_path):
    text = plotted(tmp_path / "plot.svg").read_text()
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r": #(000000|ffffff|0072b2)\\b", text.split("</style>")[1])
    assert "currentColor" in text
    assert "var(--paper)" in text
    assert "DejaVu" not in text.split("</style>")[1].replace("'DejaVu Sans', sans-serif", "")


def test_a_named_artist_has_a_title(tmp_path):
    text = plotted(tmp_path / "plot.svg").read_text()
    assert re.findall(r"<title>([^<]*)</title>", text) == ['a &amp; b: "1" &lt; 2']
    assert "hover:" not in text


def test_equal_figures_give_equal_files(tmp_path):
    first = plotted(tmp_path / "plot.svg").read_bytes()
    assert plotted(tmp_path / "plot.svg").read_bytes() == first


def test_the_ending_decides_the_format(tmp_path):
    with Image.open(plotted(tmp_path / "sub" / "plot.png")) as image:
        assert image.size == (960, 720)


def test_twelve_curves_differ_in_colour_or_dashes():
    styles = {(s["color"], str(s["linestyle"])) for s in map(line_style, range(12))}
    assert len(styles) == 12


def test_twelve_series_of_points_differ_in_colour_or_marker():
    styles = {(s["color"], s["marker"]) for s in map(marker_style, range(12))}
    assert len(styles) == 12


@pytest.mark.parametrize("places", [(0, 1), (1, 2), (0, 2)])
def test_curves_that_coincide_differ_in_dashes(places):
    first, second = (str(line_style(place)["linestyle"]) for place in places)
    assert first != second


def test_markers_of_scores_say_rate_and_interval(tmp_path):
    columns = {"one": {"exact": Proportion(9, 10)}, "two": {"exact": Proportion(1, 2)}}
    plot_scores(columns, tmp_path / "scores.svg")
    titles = re.findall(r"<title>([^<]*)</title>", (tmp_path / "scores.svg").read_text())
    # Bar and marker of each model.
    assert titles == 2 * ["one, exact: 90.0 % [59.6, 98.2] of 10"] + 2 * [
        "two, exact: 50.0 % [9.5, 90.5] of 2"
    ]


def test_curves_of_costs_say_their_times(tmp_path):
    plot_costs({"tokens": {64: {"copy": 0.001}, 256: {"copy": 0.0042}}}, tmp_path / "costs.svg")
    assert "<title>copy: 1 ms, 4.2 ms</title>" in (tmp_path / "costs.svg").read_text()
