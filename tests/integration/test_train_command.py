"""Interruptions, locks and damage of `harope train`, each followed by the same command again."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from harope.cli.main import main
from harope.lab.training.checkpoint import load_checkpoint
from harope.lab.training.logging import read_metrics
from support.command import refuses

LONG = (
    "train", "digits-dit", "--smoke", "--quiet", "--out", "run",
    "--steps", "100000", "--checkpoint_every", "50000", "--log_every", "1", "--num_workers", "2",
)  # fmt: skip


@pytest.fixture
def started(tmp_path):
    """A training in another process, which has taken some steps."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harope.cli.main", *LONG],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "run/metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
def test_a_signal_ends_with_a_checkpoint_and_the_same_command_goes_on(
    started, tmp_path, harope, number, code
):
    refuses(harope, *LONG, says=(f"run is in use by process {started.pid} on ",))
    # As by Ctrl-C and by schedulers, data workers get the signal too.
    os.killpg(started.pid, number)
    _, error = started.communicate()
    assert started.returncode == code, error
    assert len(error.splitlines()) == 1
    step = load_checkpoint(next((tmp_path / "run/checkpoints").iterdir()))[1].step
    assert f"stopped by {number.name} after step {step} of 100000" in error
    assert not (tmp_path / "run/.lock").exists()
    harope(*LONG, "--steps", step + 2)
    assert (tmp_path / f"run/checkpoints/step-{step + 2:08d}").is_dir()


def test_the_lock_of_a_killed_training_is_stale(started, harope, tmp_path):
    started.kill()
    started.communicate()
    assert json.loads((tmp_path / "run/.lock").read_text())["pid"] == started.pid
    done = harope(*LONG, "--steps", "2")
    assert f"run was locked by process {started.pid} on" in done.stderr


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`harope` in this process, which returns its exit code and its lines on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main([str(word) for word in words])
        return code, [line for line in capsys.readouterr().err.splitlines() if line]

    return run


DIGITS = ("train", "digits-dit", "--smoke", "--quiet", "--out", "run")


def tree(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_finished_run_has_nothing_to_do(command, tmp_path):
    assert command(*DIGITS) == (0, [])
    before = tree(tmp_path)
    code, lines = command(*DIGITS)
    assert (code, lines) == (0, ["harope: run has taken 4 of 4 steps: nothing to do"])
    assert {name for name, time in tree(tmp_path).items() if before.get(name) != time} <= {"run"}
    (tmp_path / "run/metrics.jsonl").unlink()
    assert command(*DIGITS)[0] == 0


def test_a_report_that_a_killed_process_left_out_is_made(command, tmp_path):
    command(*DIGITS)
    grid = tmp_path / "run/samples/step-00000004.png"
    expected = grid.read_bytes()
    grid.unlink()
    assert command(*DIGITS)[0] == 0
    assert grid.read_bytes() == expected

    vit = ("train", "digits-vit", "--smoke", "--quiet", "--out", "vit")
    command(*vit)
    metrics = tmp_path / "vit/metrics.jsonl"
    lines = read_metrics(tmp_path / "vit")
    names = ("top1", "top5", "top1_right", "top5_right", "held_out_images")
    stripped = {name: value for name, value in lines[-1].items() if name not in names}
    metrics.write_text("".join(json.dumps(line) + "\n" for line in [*lines[:-1], stripped]))
    assert command(*vit)[0] == 0
    assert read_metrics(tmp_path / "vit") == lines


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"recipe": 3}', "[" * 100_000])
def test_a_damaged_configuration_is_restored_from_the_newest_checkpoint(command, tmp_path, content):
    command(*DIGITS)
    config = tmp_path / "run/config.json"
    expected = config.read_text()
    config.write_text(content)
    assert command(*DIGITS)[0] == 0
    assert config.read_text() == expected
    config.write_text(content)
    code, lines = command(*DIGITS, "--seed", 1)
    assert code == 2
    assert "holds a run with seed 0, not 1" in lines[0]
    shutil.rmtree(tmp_path / "run/checkpoints")
    code, lines = command(*DIGITS)
    assert (code, len(lines)) == (2, 1)
    assert "config.json" in lines[0]


FIELDS = (
    "--data.kind", "folder", "--data.root", "images", "--data.image_size", 8, "--in_channels", 3,
    "--num_classes", 2,
)  # fmt: skip


def write_images(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(folder.name))
    for index in range(count):
        pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def test_a_run_knows_its_data_and_its_classes(command, tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / "images" / name, 8)
    assert command(*DIGITS, *FIELDS)[0] == 0
    state = load_checkpoint(tmp_path / "run/checkpoints/step-00000004")[1]
    assert state.data["items"] == 16
    assert state.data["classes"] == ["cat", "dog"]
    again = (*DIGITS, *FIELDS, "--steps", 6)

    (tmp_path / "images/cat").rename(tmp_path / "images/zebra")
    code, lines = command(*again)
    assert (code, len(lines)) == (2, 1)
    assert "the training data has changed since run/checkpoints/step-00000004" in lines[0]
    (tmp_path / "images/zebra").rename(tmp_path / "images/cat")
    write_images(tmp_path / "images/dog", 9)
    code, lines = command(*again)
    assert code == 2
    assert "items 16, not 17" in lines[0]
    assert not (tmp_path / "run/checkpoints/step-00000006").exists()
    start = ("--from", "run/checkpoints/step-00000004", "--out", "other")
    assert command(*again, *start) == (0, [])


def test_synthetic_data_is_made_once_and_not_by_a_dry_run(command, tmp_path):
    coco = ("train", "coco-mmdit", "--smoke", "--quiet", "--out", "run")
    assert command(*coco, "--dry-run") == (0, [])
    assert not list(tmp_path.iterdir())
    assert command(*coco)[0] == 0
    before = tree(tmp_path / "run-data")
    assert command(*coco)[0] == 0
    assert tree(tmp_path / "run-data") == before


def test_a_start_that_does_not_fit_leaves_nothing_behind(command, tmp_path):
    command(*DIGITS)
    start = ("--from", "run/checkpoints/step-00000002", "--out", "new")
    for fields, words in (
        (("--width", 64), "step-00000002 does not fit the configuration"),
        (("--qk_norm", "true"), "does not fit the configuration"),
        (("--steps", 2), "has taken 2 steps"),
        (("--from", "run"), "run is not a checkpoint"),
    ):
        code, lines = command(*DIGITS, *start, *fields)
        assert (code, len(lines)) == (2, 1)
        assert words in lines[0]
        assert not (tmp_path / "new").exists()
    assert command(*DIGITS, *start, "--lr", 1e-4) == (0, [])
    assert command(*DIGITS, *start, "--lr", 1e-4)[0] == 0


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("guidance", "nan", "sampling: guidance must be a finite number, got nan"),
        ("guidance", "-1", "guidance -1"),
        ("weight_decay", "nan", "weight_decay nan must not be negative"),
        ("weight_decay", "-0.1", "weight_decay -0.1 must not be negative"),
        ("clip_norm", "-1", "clip_norm -1.0 must be positive"),
        ("clip_norm", "0", "clip_norm 0.0 must be positive"),
        ("clip_norm", "inf", "clip_norm inf must be positive and finite"),
        ("regularization", "nan", "regularization"),
        ("regularization", "-1", "regularization -1.0 must not be negative"),
        ("lr", "nan", "lr nan must be positive"),
        ("lr", "inf", "lr inf must be positive and finite"),
        ("optimizer.betas", "[0.9, 1.0]", "betas"),
        ("ema_decay", "1", "ema_decay 1.0 must lie in [0, 1)"),
        ("seed", "-1", "seed -1 must not be negative"),
        ("encoding_options.theta", "nan", "theta"),
        ("encoding_options.theta", "-1", "theta"),
        ("encoding_options.theta", "null", "theta"),
        ("encoding_options.a.b", "1", "encoding option 'a' is unknown"),
        ("task", "{}", "task"),
        ("sampling.num_steps", "1", "num_steps 1 does not fit a chain of 1000 timesteps"),
        ("sampling.num_steps", "2000", "num_steps 2000 does not fit"),
        ("sampling.sampler", "euler", "'euler'"),
        ("sampling.guidance_channels", "2", "guidance_channels 2 is not within the 1 channels"),
        ("model.label_dropout", "0", "sampling.guidance 1.5 needs a null class"),
        ("encoding", "[" * 100_000, "encoding"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_before_training(command, tmp_path, field, value, words):
    code, lines = command(*DIGITS, f"--{field}", value)
    assert (code, len(lines)) == (2, 1)
    assert words in lines[0]
    assert len(lines[0]) < 1100
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint_whole(tmp_path):
    """A limit on the size of files stands for the disk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    def train(preexec_fn=None):
        return subprocess.run(
            [sys.executable, "-m", "harope.cli.main", *DIGITS],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
            preexec_fn=preexec_fn,
        )

    whole = train()
    assert whole.returncode == 0, whole.stderr
    expected = load_file(tmp_path / "run/checkpoints/step-00000004/model.safetensors")
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000004")
    done = train(limit)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert "model.safetensors cannot be written" in lines[0]
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000002"]
    assert train().returncode == 0
    found = load_file(tmp_path / "run/checkpoints/step-00000004/model.safetensors")
    assert all(found[name].equal(value) for name, value in expected.items())
