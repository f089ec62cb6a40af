"""Runs, models and encodings that older code wrote, read by today's.

None of them names a pairing, which meant "same" and goes on meaning it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import harope
from support.golden import HERE, assert_same, command, pictures, read_numbers, summary
from support.host import flux, normal, run_flux, run_images, vit

TOPIC = "files"
FILES = HERE / "files"

PROMPTS = ("a picture of a red circle", "a picture of two blue squares")

AS_SAME = (
    "scenes-dit ema",
    "scenes-dit model",
    "scenes-dit samples",
    "scenes-dit step",
    "scenes-mmdit samples",
    "digits-vit resolutions",
    "dit",
    "vit-encoding",
    "flux-encoding",
)
CASES = (*AS_SAME, "digits-vit-axial goes on")


def numbers(case: str, folder: Path, files: Path = FILES) -> dict[str, Any]:
    """What the old file gives when it is used."""
    name, _, use = case.partition(" ")
    old = files / name
    if use in ("ema", "model"):
        return {"output": run_dit(harope.DiT.from_checkpoint(old, weights=use))}
    if use == "step":
        (step,) = (old / "checkpoints").iterdir()
        return {"output": run_dit(harope.DiT.from_checkpoint(step))}
    if use == "samples":
        return {"pictures": draw(old, folder)}
    if use == "resolutions":
        return resolutions(old, folder)
    if use == "goes on":
        return go_on(old, folder)
    if name == "dit":
        return {"output": run_dit(harope.DiT.from_pretrained(old))}
    model, run = {"vit-encoding": (vit(), run_images), "flux-encoding": (flux(), run_flux)}[name]
    with torch.no_grad():
        return {"output": summary(run(harope.load_encoding(model, old)))}


@torch.no_grad()
def run_dit(model: harope.DiT) -> dict[str, Any]:
    inputs = normal(2, model.config.in_channels, 16, 24)
    return summary(model(inputs, torch.tensor([3.0, 500.0]), torch.tensor([1, 2])))


def draw(run: Path, folder: Path) -> list[dict[str, Any]]:
    """Two samples: of classes, or of prompts where the run takes those."""
    what: tuple[object, ...] = ("--count", 2, "--labels", "7,60")
    if run.name == "scenes-mmdit":
        (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
        what = ("--prompts", folder / "prompts.txt")
    command("sample", run, "--out", folder / "drawn", "--quiet", *what)
    return pictures(folder / "drawn", 48)


def resolutions(run: Path, folder: Path) -> dict[str, Any]:
    """How many test images the classifier gets right, by method and size."""
    scores = folder / "scores.json"
    command("evaluate", "resolutions", run, "--sizes", "6,8,10,14", "--json", scores)
    table = json.loads(scores.read_text())
    return {
        method: {"right": [float(value["successes"]) for value in by_size.values()]}
        for method, by_size in table.items()
    }


def go_on(run: Path, folder: Path) -> dict[str, Any]:
    """Losses of the four steps that the run took, and of four more."""
    shutil.copytree(run, folder / "run")
    command(
        "train", "digits-vit", "--smoke", "--quiet", "--out", folder / "run", "--steps", 8,
        "--checkpoint_every", 4, "--log_every", 1, "--encoding", "axial", "--optimizer.decay", 0,
        "--optimizer.warmup_steps", 0, "--model.depth", 2, "--model.width", 16,
        "--model.num_heads", 2,
    )  # fmt: skip
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return {"losses": [json.loads(line)["loss"] for line in lines]}


@pytest.mark.parametrize("case", CASES)
def test_old_files_give_the_pinned_numbers(case, tmp_path):
    assert_same(numbers(case, tmp_path), read_numbers(TOPIC)[case], 1e-4)


def named(pairing: str, folder: Path) -> Path:
    """A copy of the old files with a pairing written into each."""
    files = shutil.copytree(FILES, folder)
    for path in files.rglob("config.json"):
        config = json.loads(path.read_text())
        model = config.get("model", config)
        model["encoding_options"]["pairing"] = pairing
        path.write_text(json.dumps(config))
    for path in files.rglob("harope.safetensors"):
        with safe_open(path, framework="pt") as file:
            described = json.loads(file.metadata()["harope"])
        described["options"]["pairing"] = pairing
        save_file(load_file(path), path, metadata={"harope": json.dumps(described)})
    return files


@pytest.mark.parametrize("case", AS_SAME)
def test_old_files_mean_the_pairing_same(case, tmp_path):
    pinned = read_numbers(TOPIC)[case]
    same, inverse = (
        numbers(case, tmp_path / pairing, named(pairing, tmp_path / pairing / "files"))
        for pairing in ("same", "inverse")
    )
    assert_same(same, pinned, 1e-4)
    with pytest.raises(AssertionError):
        assert_same(inverse, pinned, 1e-3)


def test_no_old_file_names_a_pairing():
    files = [path for path in FILES.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"pairing" in path.read_bytes()]
