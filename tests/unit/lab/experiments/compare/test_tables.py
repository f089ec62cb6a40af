"""Tables of a comparison, and the commands of its runs."""

import shlex

from harope.cli.parsing import parse_fields
from harope.lab.experiments.compare.tables import (
    commands,
    difference_rows,
    interpretation,
    mean_rows,
)
from harope.lab.recipes import get_recipe
from harope.lab.training.serialization import override
from support.compare import made_comparison


def test_rows_have_a_star_where_zero_is_excluded():
    found = made_comparison()
    rows = {row[0]: row for row in difference_rows(found)}
    assert rows["harope - axial"][2] == "-0.1000 [-0.1248, -0.0752] *"
    assert not rows["harope - axial"][3].endswith("*")
    assert mean_rows(found)[1][:2] == ("axial", "1,000")
    assert "1 of 6 intervals exclude zero" in interpretation(found)[0]


def test_commands_make_the_configurations_of_the_runs():
    found = made_comparison()
    jobs = [job for runs in found.jobs.values() for job in runs]
    for line, job in zip(commands(found), jobs, strict=True):
        _, train, recipe, *words = shlex.split(line)
        fields = parse_fields(words)
        assert fields.pop("out") == f"runs/{job.name}"
        assert train == "train"
        assert override(get_recipe(recipe).config(), fields) == job.config
