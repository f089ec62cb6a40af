"""The page, its tables and what they say."""

import json
import shlex

from compare_support import made_comparison
from harope.cli.train import parse_fields
from harope.compare.page import commands, difference_rows, mean_rows, reading, write_comparison
from harope.recipes import get_recipe
from harope.training.codec import override


def test_a_page_with_its_pictures_and_the_numbers_as_json(tmp_path):
    found = made_comparison()
    page = write_comparison(found, tmp_path).read_text()
    assert page.count("<img") == 2
    assert "harope - axial" in page
    assert "no wider one" in page
    values = json.loads((tmp_path / "compare.json").read_text())
    assert values["baseline"] == "axial"
    first = values["differences"][0]
    assert (first["arm"], first["other"]) == ("harope", "axial")
    assert abs(first["measures"]["next_loss"]["mean"] + 0.1) < 1e-12
    assert values["arms"]["harope"]["measures"][1]["top1"] == 0.7


def test_rows_have_a_star_where_zero_is_excluded():
    found = made_comparison()
    rows = {row[0]: row for row in difference_rows(found)}
    assert rows["harope - axial"][2].startswith("-0.1000 [-0.1000, -0.1000]")
    assert rows["harope - axial"][2].endswith("*")
    assert not rows["harope - axial"][3].endswith("*")
    assert mean_rows(found)[1][:2] == ("axial", "1,000")
    assert "1 of 6 intervals exclude zero" in reading(found)[0]


def test_commands_make_the_configurations_of_the_runs():
    found = made_comparison()
    jobs = [job for runs in found.jobs.values() for job in runs]
    for line, job in zip(commands(found), jobs, strict=True):
        _, train, recipe, *words = shlex.split(line)
        fields = parse_fields(words)
        assert fields.pop("out") == f"runs/{job.name}"
        assert train == "train"
        assert override(get_recipe(recipe).config(), fields) == job.config
