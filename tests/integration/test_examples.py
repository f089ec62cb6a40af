"""The examples, as a reader would run them, on models small enough."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harope.lab.recipes.tiny_flux import save_tiny_flux

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(tmp_path):
    """What an example prints; it writes into a folder of its own."""

    def example(name: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(EXAMPLES / f"{name}.py"), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return example


def difference(printed: str) -> float:
    match = re.search(r"differ by (\S+)", printed)
    assert match is not None
    return float(match[1])


def test_timm_vit(run, tmp_path):
    printed = run("timm_vit", "vit_tiny_patch16_224")
    assert "at 320 pixels (1, 10)" in printed
    assert (tmp_path / "vit-harope" / "harope.safetensors").exists()


def test_flux(run, tmp_path):
    assert difference(run("flux", save_tiny_flux(tmp_path / "flux"), 32)) < 1e-5


def test_lora(run, tmp_path):
    printed = run("lora", save_tiny_flux(tmp_path / "flux"))
    assert "harope.safetensors pytorch_lora_weights.safetensors" in printed


def test_export(run):
    assert difference(run("export", "vit_tiny_patch16_224")) < 1e-4


def test_every_example_is_run_here_and_is_short():
    run_here = set(re.findall(r"def test_(\w+)\(run", Path(__file__).read_text()))
    assert {path.stem for path in EXAMPLES.glob("*.py")} == run_here
    for path in EXAMPLES.glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if line and "import" not in line]
        assert len(lines) <= 20, path
