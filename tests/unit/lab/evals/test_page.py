import torch

from harope.lab.data.image_io import save_png
from harope.lab.evals.page import write_scores_page
from harope.lab.metrics.intervals import Proportion
from support.page import checked_page

COLUMNS = {
    "samples": {"colors": Proportion(20, 50), "exact": Proportion(40, 100)},
    "ceiling": {"colors": Proportion(50, 50), "exact": Proportion(100, 100)},
}


def test_the_page_says_the_score_and_what_differs(tmp_path):
    page = write_scores_page(COLUMNS, tmp_path / "out", title="Scenes of a run")
    text = page.read_text()
    titles = checked_page(text)
    assert "samples, exact: 40.0 %, between 30.9 and 49.8 %" in text
    assert "ceiling above samples in exact" in text
    assert "samples, exact: 40.0 % [30.9, 49.8] of 100" in titles
    assert "in its colour" in text


def test_samples_are_shown_if_there_are_any(tmp_path):
    for index in range(3):
        save_png(torch.zeros(8, 8, 3, dtype=torch.uint8), tmp_path / f"{index:06d}.png")
    page = write_scores_page(COLUMNS, tmp_path / "out", title="T", samples=tmp_path)
    text = page.read_text()
    checked_page(text)
    assert "The first 3 of the scored samples" in text
    assert text.count("<img") == 1
