"""Prompts through the real command line, by two processes."""

import json

from harope.cli.main import main
from harope.lab.recipes.tiny_sd3 import save_tiny_sd3
from support.command import launch
from support.scorer import geneval_reads


def test_two_processes_share_prompts_and_one_completes_what_is_missing(tmp_path, monkeypatch):
    save_tiny_sd3(tmp_path / "sd3")
    with (tmp_path / "m.jsonl").open("w") as file:
        for name in ("cow", "dog", "cat"):
            include = [{"class": name, "count": 1}]
            line = {"tag": "single_object", "include": include, "prompt": f"a {name}"}
            file.write(json.dumps(line) + "\n")
    command = ("sample", "sd3", "--geneval", "m.jsonl", "--samples-per-prompt", "2")
    command += ("--num-steps", "1", "--batch-size", "1", "--out", "drawn", "--quiet")
    assert launch(tmp_path, 2, *command).count("6 images of 3 prompts") == 1
    found = geneval_reads(tmp_path / "drawn")
    assert [metadata["prompt"] for _, metadata, _ in found] == [
        "a cow", "a cow", "a dog", "a dog", "a cat", "a cat",
    ]  # fmt: skip
    pictures = sorted((tmp_path / "drawn").rglob("*.png"))
    before = [path.read_bytes() for path in pictures]
    (tmp_path / "drawn/00001/samples/0001.png").unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert main(command) == 0
    assert [path.read_bytes() for path in pictures] == before
