import json

from support.page import checked_page


def test_a_run_is_inspected(harope, tmp_path):
    harope("train", "digits-dit", "--smoke", "--out", "run", "--quiet")
    done = harope("inspect", "run", "--images", 2, "--out", "heads")
    assert "from I" in done.stdout
    assert "multiply-adds" in done.stdout
    progress = [
        "matrices, kernels and scores of",
        "attention on 2 images",
        "multiply-adds",
        "plots",
    ]
    for words, line in zip(progress, done.stderr.splitlines(), strict=True):
        assert words in line
    assert done.stdout.splitlines()[-1] == "heads/heads.html"
    values = json.loads((tmp_path / "heads/heads.json").read_text())
    assert values["costs"]["tokens"] == values["sizes"][0] * values["sizes"][1]
    assert checked_page((tmp_path / "heads/heads.html").read_text())


def test_a_model_without_a_basis_has_costs_and_says_so(harope):
    harope("train", "digits-vit", "--smoke", "--out", "run", "--quiet", "--encoding", "axial")
    done = harope("inspect", "run", "--images", 2)
    assert "no matrices" in done.stdout
    assert "multiply-adds" in done.stdout
    assert "from I" not in done.stdout


def test_what_is_no_run_is_one_line(harope, tmp_path):
    (tmp_path / "letters").mkdir()
    for arguments, words in (
        (("nowhere",), "nowhere does not exist"),
        (("letters",), "letters holds no checkpoint"),
        (("letters", "--grid", "3"), "--grid '3' must be two positive integers"),
        (("letters", "--images", "-1"), "--images -1 must be 0 or more"),
    ):
        lines = harope("inspect", *arguments, code=2).stderr.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("harope: error: ")
        assert words in lines[0]
