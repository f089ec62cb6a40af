"""GenEval and DPG-Bench through the real command line, with small models in the hub's layout."""

import json

from support.command import launch, refuses
from support.judge import save_blip, save_clip_model, save_mask2former
from support.scorer import save_pixel, write_geneval, write_questions


def test_two_processes_share_geneval_and_one_goes_on(harope, tmp_path):
    write_geneval(tmp_path / "drawn", ["dog", "cat", "cow"])
    save_mask2former(tmp_path / "detector")
    save_clip_model(tmp_path / "clip")
    models = ("--detector", "detector", "--clip", "clip")
    command = ("evaluate", "geneval", "drawn", *models, "--results", "kept")
    printed = launch(tmp_path, 2, *command)
    assert printed.count("drawn: 6 images of 3 prompts") == 1
    assert "detector  Mask2FormerForUniversalSegmentation" in printed
    parts = [path.read_text().split() for path in (tmp_path / "kept").glob("part-*.jsonl")]
    assert len(parts) == 2
    lines = (tmp_path / "kept/results.jsonl").read_text().splitlines()
    assert [json.loads(line)["filename"][:5] for line in lines] == [
        "00000", "00000", "00001", "00001", "00002", "00002",
    ]  # fmt: skip
    assert harope(*command).stdout == printed


def test_dpg_by_a_small_blip(harope, tmp_path):
    for item in ("p1", "p2"):
        save_pixel(tmp_path / "drawn" / f"{item}.png", (200, 0, 0), size=32)
    rows = [(item, n, str(n - 1), "entity - whole (dog)") for item in ("p1", "p2") for n in (1, 2)]
    write_questions(tmp_path / "q.csv", rows)
    save_blip(tmp_path / "blip")
    command = ("evaluate", "dpg", "drawn", "--questions", "q.csv", "--vqa")
    printed = harope(*command, "blip", "--json", "made/scores.json").stdout
    assert "blip   BlipForQuestionAnswering" in printed
    values = json.loads((tmp_path / "made/scores.json").read_text())
    assert set(values["corrected"]["prompts"]) == {"p1", "p2"}
    assert values["as_scripted"]["left_out"] == ["p1"]
    refuses(harope, *command, "nowhere", says=("--vqa nowhere", "config.json"))
