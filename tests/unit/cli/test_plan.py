"""`harope plan`."""

import json

import pytest

from harope.cli.main import main
from harope.lab.plan.cards import CARDS
from harope.lab.plan.speed import DEFAULT_MFU

TINY = ("--depth", "1", "--width", "64", "--num_heads", "2")


def test_a_plan_is_printed_and_written(tmp_path, capsys):
    file = tmp_path / "plan.json"
    assert main(["plan", "scenes-dit", *TINY, "--gpus", "2", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("scenes-dit on 2 x h100: ")
    values = json.loads(file.read_text())
    assert values["fits"] is True
    assert values["layout"]["gpus"] == 2
    assert values["needed_bytes"] == pytest.approx(sum(p["bytes"] for p in values["memory"]))
    assert values["dollars"] > 0


def test_a_card_that_is_too_small_exits_with_two(capsys):
    words = ["plan", "scenes-dit", *TINY, "--batch_size", "1000000", "--card", "rtx-3090"]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert "does not fit in 24 GiB" in captured.out
    lines = [line for line in captured.err.splitlines() if line.startswith("harope: error: ")]
    assert len(lines) == 1
    assert "it fits with --accumulation " in lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scenes-dit", "--card", "h1000"], "card 'h1000' is unknown: did you mean 'h100'?"),
        (["scenes"], "recipe 'scenes' is unknown"),
        (["scenes-dit", "--gpus", "5"], "batch_size 64 is not a multiple of 5"),
        (["scenes-dit", "--stepps", "5"], "stepps"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys):
    assert main(["plan", *words]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1
    assert message in error[0]


def test_the_help_names_all_cards_and_the_default_share(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["plan", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for card in CARDS:
        assert card in text
    assert f"(default: {DEFAULT_MFU})" in text
