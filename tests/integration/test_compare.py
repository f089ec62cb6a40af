import json


def test_encodings_are_compared_and_a_second_call_goes_on(harope, tmp_path):
    command = ("compare", "scenes-dit", "--arms", "axial", "harope", "--seeds", "0,1",
               "--controls", "none", "--smoke", "--out", "out")  # fmt: skip
    first = harope(*command).stdout
    assert "4/4" in first
    assert "harope - axial" in first
    assert first.splitlines()[-1] == "page: out/report.html"
    # Two plots and the samples of two arms.
    assert (tmp_path / "out/report.html").read_text().count("<img") == 4
    values = (tmp_path / "out/compare.json").read_text()
    assert len(json.loads(values)["arms"]["harope"]["measures"]) == 2

    (tmp_path / "out/runs/harope-1/measures.json").unlink()
    second = harope(*command).stdout
    assert "3 of 4 runs are already finished" in second
    assert "[1/1] harope-1" in second
    assert (tmp_path / "out/compare.json").read_text() == values


def test_bad_input_is_one_line(harope):
    done = harope("compare", "scenes-dit", "--smoke", "--arms", "axial", "haropo", code=2)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("harope: error: ")
    assert "did you mean 'harope'" in lines[0]
