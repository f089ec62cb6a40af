"""Trainings by several processes that divide the model (FSDP2) or copy it (DDP)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from harope.cli.main import main
from harope.lab.training.logging import read_metrics
from support import many
from support.command import launcher

STEPS = 20
FIELDS = ["--smoke", "--quiet", "--steps", f"{STEPS}", "--log_every", "1", "--report_to", "[]"]
QUICK = ["--num_samples", "1", "--validation_images", "0"]
HARD = ["--batch_size", "12", "--accumulation", "2", "--clip_norm", "0.5"]
HARD += ["--gradient_checkpointing", "true"]
TRAININGS = {
    "dit": ["digits-dit", *QUICK, *HARD, "--lr", "3e-3", "--regularization", "0.1"],
    "vit": ["digits-vit", "--mixup", "0", "--gradient_checkpointing", "true"],
    "mmdit": ["scenes-mmdit", "--prompts", "a red circle", "--validation_images", "0"],
}
"""One training of each kind of model."""
SHARDED = ["--checkpoint_format", "sharded", "--checkpoint_every", "8"]
SHARDED += ["--keep_checkpoints", "3"]


def train(name: str, run: str, *fields: str) -> list[str]:
    return ["train", *TRAININGS[name], *FIELDS, "--out", run, *fields]


def losses(run: Path) -> dict[str, list[float]]:
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return {key: [line[key] for line in lines] for key in ("loss", "grad_norm")}


def run_together(folder: Path, processes: int, *commands: list[str]) -> str:
    """Execute commands in one group of processes; return what they print."""
    words = [*launcher(processes), many.__file__, json.dumps(commands)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs NAME-one, NAME-ddp and NAME-fsdp, and `stopped`, which has sharded checkpoints only."""
    folder = tmp_path_factory.mktemp("parallel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in TRAININGS:
            assert main(train(name, f"{name}-one")) == 0
    commands = [
        train(name, f"{name}-{kind}", "--parallel", kind, *(SHARDED if name == "dit" else ()))
        for name in TRAININGS
        for kind in ("ddp", "fsdp")
    ]
    printed = run_together(folder, 2, *commands)
    # By the main process only.
    assert printed.count("checkpoint: ") == len(commands)
    shutil.copytree(folder / "dit-fsdp", folder / "stopped")
    shutil.rmtree(folder / f"stopped/checkpoints/step-{STEPS:08d}")
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", list(TRAININGS))
def test_losses_are_those_of_one_process(folder, name, kind):
    one, several = (losses(folder / f"{name}-{end}") for end in ("one", kind))
    assert_close(several, one, rtol=1e-5, atol=1e-5)


def test_checkpoints_of_divided_models_are_whole(folder):
    for stem in ("model", "ema", "optimizer"):
        path = f"checkpoints/step-{STEPS:08d}/{stem}.safetensors"
        one, fsdp = (load_file(folder / run / path) for run in ("dit-one", "dit-fsdp"))
        # Adam's first steps have the size of the learning rate where a gradient is nearly 0.
        assert_close(fsdp, one, rtol=1e-3, atol=1e-3)


def test_a_sharded_checkpoint_is_continued_by_one_process(folder, monkeypatch):
    shutil.copytree(folder / "stopped", folder / "continued")
    monkeypatch.chdir(folder)
    assert main(["train", "--resume", "continued", "--parallel", "ddp", "--quiet"]) == 0
    assert_close(losses(folder / "continued"), losses(folder / "dit-one"), rtol=1e-5, atol=1e-5)


def test_a_sharded_checkpoint_is_gathered_and_others_go_on_from_it(folder, monkeypatch, capsys):
    shutil.copytree(folder / "stopped", folder / "gathered")
    monkeypatch.chdir(folder)
    sample = ["sample", "gathered", "--out", "drawn", "--count", "1", "--quiet"]
    assert main(sample) == 2
    assert "`harope gather gathered`" in capsys.readouterr().err
    assert main(["gather", "gathered"]) == 0
    assert capsys.readouterr().out == "checkpoint: gathered/checkpoints/step-00000016\n"
    assert main(sample) == 0
    shutil.rmtree(folder / "gathered/checkpoints/step-00000016.sharded")
    # Three processes for two heads: one has no part of an encoding's parameters.
    run_together(folder, 3, ["train", "--resume", "gathered", "--quiet"])
    assert_close(losses(folder / "gathered"), losses(folder / "dit-one"), rtol=1e-5, atol=1e-5)


def test_a_damaged_sharded_checkpoint_is_set_aside(folder, monkeypatch, capsys):
    shutil.copytree(folder / "stopped", folder / "damaged")
    monkeypatch.chdir(folder)
    checkpoint = Path("damaged/checkpoints/step-00000016.sharded")
    min(checkpoint.glob("*.safetensors")).unlink()
    assert main(["train", "--resume", "damaged", "--parallel", "ddp", "--quiet"]) == 0
    assert "is damaged" in capsys.readouterr().err
    assert checkpoint.with_name(f"{checkpoint.name}.damaged").is_dir()


def test_processes_that_differ_are_refused_and_one_reports(tmp_path):
    command = f"{sys.executable} -m harope.cli.main train digits-dit --smoke --out run --seed $RANK"
    words = [*launcher(2), "--no-python", "bash", "-c", command]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("harope: "))
    assert line.startswith("harope: error: the processes differ: process 0 on ")
    assert "has config.seed 0, not 1 as process 1 on " in line
    assert not (tmp_path / "run").exists()


def test_a_process_that_is_killed_ends_the_others_and_one_goes_on(tmp_path, monkeypatch, capsys):
    command = ["train", "digits-dit", "--smoke", "--out", "run", "--checkpoint_every", "2"]
    fatal = (
        "import os, sys, harope.lab.training.loop as loop\n"
        "step = loop.Trainer._train_step\n"
        "def killed(self, batches):\n"
        "    if self.step == 3 and os.environ['RANK'] == '1':\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return step(self, batches)\n"
        "loop.Trainer._train_step = killed\n"
        "from harope.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "fatal.py").write_text(fatal)
    words = [*launcher(2), "fatal.py", *command, "--quiet"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("harope: "))
    assert "another process has ended" in line
    monkeypatch.chdir(tmp_path)
    assert main(command) == 0
    assert "going on from step 2 of 4" in capsys.readouterr().err
