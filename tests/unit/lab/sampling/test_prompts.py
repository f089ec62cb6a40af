"""Prompt files, and errors that name file and line."""

import json

import pytest

from harope.lab.evals.dpg.prompts import read_dpg
from harope.lab.evals.geneval.prompts import read_geneval
from harope.lab.sampling.prompts import PromptRequest, read_prompts

GOOD = {
    "tag": "position",
    "include": [
        {"class": "cow", "count": 1},
        {"class": "dog", "count": 1, "position": ["left of", 0]},
    ],
    "prompt": "a photo of a dog left of a cow",
}


def test_geneval_lines_are_stored_unchanged_and_numbered(tmp_path):
    line = '{"tag": "single_object",  "include": [{"class": "a", "count": 1}], "prompt": "a é"}'
    (tmp_path / "m.jsonl").write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="utf-8")
    first, second = read_geneval(tmp_path / "m.jsonl")
    assert (first.name, first.prompt) == ("00000", GOOD["prompt"])
    assert json.loads(first.metadata) == GOOD
    assert (second.name, second.prompt, second.metadata) == ("00001", "a é", line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[1]", "is list, not an object"),
        (json.dumps(GOOD | {"prompt": " "}), "prompt is ' ', not a text"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "tag"}), "tag is None, not a text"),
        (json.dumps(GOOD | {"include": {}}), "include is dict, not a list"),
        (json.dumps(GOOD | {"exclude": [{"class": "cow"}]}), r"exclude\[0\] .* class and a count"),
        (json.dumps(GOOD | {"include": [{"class": "cow", "count": -1}]}), "class and a count"),
        (json.dumps(GOOD | {"include": GOOD["include"][1:]}), r"include\[0\] has the position"),
    ],
)
def test_a_geneval_line_that_the_scorer_could_not_use_is_named(tmp_path, line, words):
    path = tmp_path / "m.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n{json.dumps(GOOD)}\n")
    with pytest.raises(ValueError, match=rf"m\.jsonl line 2:? .*{words}"):
        read_geneval(path)


def test_dpg_prompts_are_named_by_their_stems_in_order(tmp_path):
    for name, text in (("b1", "a boat \n"), ("12", "twelve"), ("._12", "no prompt")):
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "readme.md").write_text("no prompt")
    requests = read_dpg(tmp_path)
    assert [(r.name, r.prompt) for r in requests] == [("12", "twelve"), ("b1", "a boat")]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", " \n", r"a\.txt line 1 holds no prompt"),
        ("a.b.txt", "boat", r"'a\.b'.*first dot"),
        ("a.md", "boat", r"holds no \*\.txt"),
    ],
)
def test_dpg_folders_that_cannot_be_scored_are_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_dpg(tmp_path)


def test_a_dpg_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("boat")
    with pytest.raises(ValueError, match=r"a\.txt is not a folder"):
        read_dpg(tmp_path / "a.txt")


def test_plain_prompts_skip_empty_lines(tmp_path):
    (tmp_path / "p.txt").write_text("\ufeffone\r\n\n  two \n", encoding="utf-8")
    requests = read_prompts(tmp_path / "p.txt")
    assert [(r.name, r.prompt) for r in requests] == [("000000", "one"), ("000001", "two")]


def test_plain_files_without_prompts_or_not_in_utf8_are_refused(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("\n \n")
    with pytest.raises(ValueError, match=r"p\.txt contains no prompts"):
        read_prompts(path)
    path.write_bytes(b"one\n\xff\n")
    with pytest.raises(ValueError, match=r"p\.txt line 2 is not UTF-8"):
        read_prompts(path)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a\\b", "a\0"])
def test_a_name_is_not_a_path(name):
    with pytest.raises(ValueError, match="must be the name of a file, not a path"):
        PromptRequest(name=name, prompt="a cow")
