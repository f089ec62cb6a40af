"""Bad input: one line on stderr that names the thing and the mend, exit code 2, nothing written."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from support.command import refuses


@pytest.fixture
def run(harope, tmp_path):
    harope("train", "digits-dit", "--smoke", "--out", "run", "--quiet")
    return tmp_path / "run"


def test_unknown_names_are_answered_with_the_nearest(harope, tmp_path):
    refuses(harope, "train", "scene-dit", says=("'scene-dit'", "mean 'scenes-dit'?"))
    refuses(
        harope, "train", "scenes-dit", "--encoding", "harop", says=("'harop'", "mean 'harope'?")
    )
    refuses(
        harope, "train", "scenes-dit", "--stepz", "3", says=("'stepz'", "did you mean 'steps'?")
    )
    refuses(
        harope,
        "train",
        "scenes-dit",
        "--encoding-options.thetta",
        "3",
        says=("'thetta'", "'theta'"),
    )
    refuses(harope, "train", "scenes-dit", "--steps", says=("--steps has no value",))
    refuses(harope, "train", "scenes-dit", "--steps", "many", says=("steps", "integer", "many"))
    assert not list(tmp_path.iterdir())


def test_sizes_that_do_not_go_together(harope, tmp_path):
    train = ("train", "scenes-dit", "--out", "run")
    refuses(harope, *train, "--num-heads", "3", says=("width 128", "num_heads 3"))
    refuses(
        harope, *train, "--width", "60", "--num-heads", "4", says=("head_dim 15", "must be even")
    )
    refuses(
        harope, *train, "--width", "24", "--num-heads", "4", says=("head_dim 6", "2 axes", "of 4")
    )
    refuses(harope, *train, "--patch-size", "5", says=("(3, 32, 32)", "patch_size 5"))
    refuses(harope, *train, "--num-classes", "7", says=("7", "180 classes"))
    refuses(harope, *train, "--sampler", "ddim", says=("'ddim'", "euler, heun"))
    assert not list(tmp_path.iterdir())


def test_a_run_folder_of_another_configuration(harope, run):
    before = (run / "config.json").read_bytes()
    refuses(
        harope, "train", "digits-dit", "--smoke", "--out", "run", "--seed", "5",
        says=("holds a run with seed 0, not 5", "another --out"),
    )  # fmt: skip
    assert (run / "config.json").read_bytes() == before


def test_a_folder_that_is_not_a_run(harope, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/one.txt").write_text("dear")
    refuses(harope, "train", "digits-dit", "--out", "letters", says=("not empty", "another --out"))
    refuses(harope, "sample", "letters", "--out", "drawn", says=("letters holds no checkpoint",))
    refuses(harope, "evaluate", "scenes", "letters", says=("not a folder of samples",))
    refuses(harope, "sample", "nowhere", "--out", "drawn", says=("nowhere",))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["letters", "one.txt"]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(harope, tmp_path):
    train = ("train", "digits-dit", "--smoke", "--quiet", "--checkpoint_every", "1")
    rate = ("--lr", "1e30", "--optimizer.warmup_steps", "3", "--optimizer.warmup_lr", "1e-5")
    refuses(
        harope, *train, *rate, "--log_every", "1", "--out", "run",
        says=("the loss is nan at step 2", "--from run/checkpoints/step-00000001", "--out"),
    )  # fmt: skip
    kept = tmp_path / "run/checkpoints"
    assert [path.name for path in kept.iterdir()] == ["step-00000001"]


def test_a_training_goes_on_from_a_checkpoint_with_another_rate(harope, tmp_path):
    train = ("train", "digits-dit", "--smoke", "--quiet", "--encoding", "axial")
    harope(*train, "--lr", "1e-4", "--out", "run")
    start = (*train, "--log_every", "1", "--from", "run/checkpoints/step-00000004", "--steps", "8")
    refuses(harope, *start, "--lr", "1e30", "--out", "fast", says=("the loss is nan at step 6",))
    harope(*start, "--lr", "1e-5", "--out", "slow")
    assert (tmp_path / "slow/checkpoints/step-00000008").is_dir()


def test_weights_that_are_not_finite_are_not_saved(harope, tmp_path):
    """The loss of the only step is finite, but not what the step makes of the weights."""
    train = ("train", "digits-dit", "--smoke", "--quiet", "--out", "run", "--steps", "1")
    rate = ("--lr", "1e38", "--optimizer.warmup_steps", "0")
    refuses(harope, *train, *rate, says=("no checkpoint of step 1 was written", "not finite"))
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_truncated_training_checkpoint(harope, run):
    path = run / "checkpoints/step-00000004/ema.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    refuses(harope, "sample", "run", "--out", "drawn", says=("step-00000004", "damaged"))
    again = ("train", "digits-dit", "--smoke", "--out", "run", "--quiet")
    done = harope(*again)
    assert "step-00000004/ema.safetensors is damaged" in done.stderr
    assert "step-00000004.damaged" in done.stderr
    assert (run / "checkpoints/step-00000004").is_dir()
    for checkpoint in (run / "checkpoints").glob("step-0000000?"):
        (checkpoint / "ema.safetensors").write_bytes(b"")
    refuses(harope, *again, says=("ema.safetensors", "cannot be read", "remove"))


class Hostile:
    """A pickle that would make a folder when opened."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


def test_a_hostile_a_foreign_and_a_truncated_pt_file(harope, tmp_path):
    torch.save({"model": Hostile()}, tmp_path / "hostile.pt")
    torch.save({"model": {"weight": torch.ones(3)}, "ema": {}}, tmp_path / "foreign.pt")
    torch.save({"model": {"weight": torch.ones(3000)}}, tmp_path / "cut.pt")
    whole = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for name, words in (
        ("hostile", "would run code"),
        ("foreign", "not a facebookresearch/DiT checkpoint"),
        ("cut", "cut.pt cannot be read"),
    ):
        refuses(harope, "convert", f"{name}.pt", "out", says=(f"{name}.pt", words))
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out").exists()


def test_labels_out_of_range(harope, run):
    refuses(
        harope, "sample", "run", "--labels", "10", "--out", "drawn", says=("label 10", "0 to 9")
    )
    refuses(
        harope,
        "sample",
        "run",
        "--labels",
        "two",
        "--out",
        "drawn",
        says=("'two'", "must be an integer"),
    )
    assert not (run.parent / "drawn").exists()


def test_image_folders(harope, tmp_path):
    (tmp_path / "empty").mkdir()
    train = ("train", "imagenet-dit", "--smoke", "--out", "run", "--data.kind", "folder")
    size = ("--data.image_size", "32", "--in-channels", "3", "--model.num_classes", "1")
    refuses(harope, *train, *size, "--data.root", "empty", says=("empty", ".png"))
    (tmp_path / "bad").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "bad/a.png")
    (tmp_path / "bad/b.png").write_bytes(b"no picture")
    refuses(harope, *train, *size, "--data.root", "bad", "--quiet", says=("b.png",))


def test_features_and_labels_of_different_lengths(harope, tmp_path):
    np.save(tmp_path / "features.npy", np.zeros((6, 4, 8, 8), np.float32))
    np.save(tmp_path / "labels.npy", np.zeros(5, np.int64))
    refuses(
        harope, "train", "imagenet-dit", "--smoke", "--out", "run",
        "--data.root", "null", "--data.features", "features.npy", "--data.labels", "labels.npy",
        says=("features.npy", "6", "labels.npy", "5"),
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_samples_of_another_plan(harope, run):
    harope("sample", "run", "--count", 2, "--out", "drawn", "--quiet")
    refuses(
        harope,
        "sample",
        "run",
        "--count",
        3,
        "--out",
        "drawn",
        says=("made from something else", "not"),
    )
    manifest = json.loads((run.parent / "drawn/samples.json").read_text())
    assert manifest["count"] == 2


def test_an_incomplete_folder_of_samples(harope, tmp_path):
    harope("train", "scenes-dit", "--smoke", "--out", "run", "--quiet")
    harope("sample", "run", "--count", 2, "--out", "drawn", "--quiet")
    (tmp_path / "drawn/000001.png").unlink()
    refuses(harope, "evaluate", "scenes", "drawn", says=("is missing 1 of 2", "000001.png"))


def test_debug_shows_the_traceback(harope):
    done = harope("--debug", "train", "scene-dit", code=1)
    assert "Traceback" in done.stderr


def test_a_benchmark_that_cannot_run_is_refused(harope):
    refuses(harope, "bench", "--threads", "0", says=("threads 0 must be at least 1",))


def test_a_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-m", "harope.cli.main", "recipes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
