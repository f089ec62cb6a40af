import json


def test_encodings_are_compared_and_a_second_call_goes_on(harope, tmp_path):
    command = ("compare", "digits-vit", "--encodings", "axial,harope", "--seeds", "0,1",
               "--controls", "none", "--smoke", "--out", "out")  # fmt: skip
    first = harope(*command).stdout
    assert "4/4" in first
    assert "harope - axial" in first
    assert first.splitlines()[-1] == "page: out/report.html"
    assert (tmp_path / "out/report.html").read_text().count("<img") == 2
    values = (tmp_path / "out/compare.json").read_text()
    assert len(json.loads(values)["arms"]["harope"]["measures"]) == 2

    (tmp_path / "out/runs/harope-1/measures.json").unlink()
    second = harope(*command).stdout
    assert "3 of 4 runs are there already" in second
    assert "[1/1] harope-1" in second
    assert (tmp_path / "out/compare.json").read_text() == values


def test_bad_input_is_one_line(harope, tmp_path):
    recipe = ("compare", "digits-vit", "--smoke")
    for arguments, words in (
        (("compare", "digit-vit", "--encodings", "axial,harope"), "did you mean"),
        ((*recipe, "--encodings", "axial"), "needs at least 2"),
        ((*recipe, "--encodings", "axial,haropo"), "did you mean 'harope'"),
        ((*recipe, "--encodings", "axial,harope", "--seeds", "a,b"), "--seeds 'a,b'"),
        ((*recipe, "--encodings", "axial,harope", "--controls", "wid"), "--controls 'wid'"),
        ((*recipe, "--encodings", "axial,harope", "--quick"), "choose one"),
        ((*recipe, "--encodings", "axial,harope", "--widht", "3"), "'widht' is unknown"),
        ((*recipe, "--encodings", "axial,harope", "--samples", "-3"), "samples -3"),
    ):
        lines = harope(*arguments, code=2).stderr.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("harope: error: ")
        assert words in lines[0]
