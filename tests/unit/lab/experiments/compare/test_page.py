"""The page and the numbers beside it."""

import json
from dataclasses import replace

import torch

from harope.lab.data.image_io import save_png
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


def test_the_page_says_how_many_samples_it_shows(tmp_path):
    found = made_comparison()
    found = replace(found, scoring=replace(found.scoring, reference="digits.npz"))
    for runs in found.jobs.values():
        for number in range(found.scoring.samples):
            path = runs[0].samples_folder(tmp_path) / f"{number:06d}.png"
            save_png(torch.zeros(4, 4, 3, dtype=torch.uint8), path)
    assert "The same 6 classes or prompts" in write_comparison(found, tmp_path).read_text()
