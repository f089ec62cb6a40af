"""The page and the numbers beside it."""

import json

from harope.lab.experiments.compare.page import write_comparison
from support.compare import made_comparison
from support.page import checked_page


def test_a_page_with_its_pictures_and_the_numbers_as_json(tmp_path):
    found = made_comparison()
    page = write_comparison(found, tmp_path).read_text()
    titles = checked_page(page)
    assert page.count("<svg ") == 2
    assert "harope - axial, EMA loss: -0.1 [-0.1248, -0.07516]" in titles
    assert "Of 2 differences between the encodings, 1 exceed their 95 % intervals" in page
    assert "harope - axial" in page
    assert "no wider one" in page
    values = json.loads((tmp_path / "compare.json").read_text())
    assert values["groups"] == [["axial", "harope"]]
    first = values["differences"][0]
    assert (first["arm"], first["other"]) == ("harope", "axial")
    assert abs(first["measures"]["next_loss"]["mean"] + 0.1) < 1e-12
    assert values["arms"]["harope"]["measures"][1]["top1"] == 0.7
