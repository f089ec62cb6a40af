"""Curves with bands and intervals of differences."""

import numpy as np
import pytest
from PIL import Image

from harope.lab.metrics.intervals import Mean
from harope.lab.reporting import curves
from harope.lab.reporting.curves import plot_bands, plot_differences
from harope.lab.reporting.style import PAPER

RUNS = {"a": [[3.0, 2.0, 1.0], [3.1, 2.1, 1.1]], "b": [[2.9, 1.8, 0.7], [3.0, 1.9, 0.9]]}


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, kept open."""
    kept = []
    monkeypatch.setattr(curves.plt, "close", kept.append)
    yield kept
    monkeypatch.undo()
    curves.plt.close("all")


def ink(path):
    return (np.asarray(Image.open(path).convert("L")) < 250).mean()


def test_bands_hold_means_and_paired_differences(tmp_path, figures):
    plot_bands([64, 128, 192], RUNS, tmp_path / "bands.png")
    losses, panel = figures[0].axes
    assert [line.get_label() for line in losses.lines] == ["a", "b"]
    np.testing.assert_allclose(losses.lines[1].get_ydata(), [2.95, 1.85, 0.8])
    assert panel.get_title() == "b - a"
    # Differences -0.1, -0.2, -0.25, each with the mean of those before it.
    np.testing.assert_allclose(panel.lines[0].get_ydata(), [-0.1, -0.15, -0.55 / 3])
    assert ink(tmp_path / "bands.png") > 0.01


def test_more_runs_than_colours_are_dashed(tmp_path, figures):
    many = {f"arm {place}": RUNS["a"] for place in range(8)}
    plot_bands([64, 128, 192], many, tmp_path / "bands.png")
    styles = {(line.get_color(), line.get_linestyle()) for line in figures[0].axes[0].lines}
    assert len(styles) == 8


def test_differences_have_a_panel_per_measure_and_a_row_per_contrast(tmp_path, figures):
    panels = {
        f"m{place}": {"b - a": Mean(1.0, 0.5, 1.5), "c - a": Mean(0.0, -1.0, 1.0)}
        for place in range(5)
    }
    plot_differences(panels, dict.fromkeys(panels, "left"), tmp_path / "differences.png")
    shown = [axes for axes in figures[0].axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == list(panels)
    labels = [text.get_text() for text in shown[0].get_yticklabels()]
    assert labels == ["b - a", "c - a"]
    # The filled one excludes zero.
    filled = [line.get_markerfacecolor() for line in shown[0].lines if line.get_marker() == "o"]
    assert filled[0] != PAPER
    assert filled[1] == PAPER
    assert ink(tmp_path / "differences.png") > 0.01
