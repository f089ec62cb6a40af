"""Arguments of `harope compare` that cannot be right."""

import pytest

from harope.cli.main import main

RECIPE = ("compare", "scenes-dit", "--smoke")
PAIR = (*RECIPE, "--arms", "axial", "harope")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "scene-dit", "--arms", "axial", "harope"), "did you mean"),
        ((*RECIPE, "--arms", "axial"), "needs at least 2"),
        ((*PAIR, "--seeds", "a,b"), "--seeds 'a,b' must be a comma-separated list of integers"),
        ((*PAIR, "--seeds", "0"), "needs at least 2"),
        (
            (*PAIR, "--controls", "wid"),
            "--controls 'wid' must be none, or a comma-separated list of wide, rates",
        ),
        ((*PAIR, "--rates", "1"), "must be positive and not 1"),
        ((*PAIR, "--rates", "nan"), "must be positive and not 1"),
        ((*PAIR, "--rates", "inf"), "must be positive and not 1"),
        ((*PAIR, "--quick"), "--quick and --smoke are both given"),
        ((*PAIR, "--widht", "3"), "'widht' is unknown"),
        ((*PAIR, "--samples", "-3"), "samples -3"),
        ((*PAIR, "--workers", "-1"), "workers -1"),
        ((*PAIR, "--nice", "20"), "nice 20 must be in the range 0 to 19"),
        ((*PAIR, "axial:theta"), "'theta' is not OPTION=VALUE"),
        ((*PAIR, "axial:per_head=false"), "per_head has no effect"),
        ((*PAIR, "harope:pairing=inverse"), "'harope' and 'harope:pairing=inverse' are the same"),
        ((*PAIR, "harope:lr=0.1"), "has no baseline"),
    ],
)
def test_it_is_said_in_one_line_before_anything_trains(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("harope: error: ")
    assert words in lines[0]
    assert not list(tmp_path.rglob("metrics.jsonl"))
