"""Commands where only the core of harope is installed: they run, or name the extra they need."""

import subprocess
import sys

import pytest

from harope.cli.main import COMMANDS, main
from harope.cli.missing import missing_package_advice

COMMAND_LINES = {
    "encodings": (),
    "recipes": ("train",),
    "demo --out page": ("train",),
    "train scenes-dit --out run": ("train",),
    "train scenes-dit --help": ("train",),
    "train --resume run": ("train",),
    "sample run --out drawn": ("train",),
    "sample run --out drawn --prompt a": ("train",),
    "evaluate scenes samples": ("evaluate", "train"),
    "evaluate classes samples": ("evaluate", "train"),
    "evaluate resolutions run --sizes 8": ("evaluate", "train"),
    "evaluate distances samples --reference images": ("evaluate", "train"),
    "evaluate geneval images --detector d --clip c": ("evaluate", "train"),
    "compare scenes-dit --arms axial harope --out compared": ("train",),
    "inspect run": ("train",),
    "encode images latents --vae vae": ("diffusers", "train"),
    "convert run out": ("train",),
    "gather run": ("train",),
    "plan digits-dit --card h100": ("train",),
    "push run user/run": ("train",),
    "bench": ("bench",),
    "completion bash": ("completion",),
}
"""Command lines, and the extras that their errors name; none for those that run."""

SCRIPT = """
import os, sys
from importlib.metadata import requires
import re
names = {re.match(r"[\\w.-]+", line)[0] for line in requires("harope") if "extra ==" in line}
names |= {"PIL", "sklearn", "torch_fidelity", "huggingface_hub", "shtab"}
for name in names - {"harope"}:
    sys.modules[name.replace("-", "_")] = None
from harope.cli.main import main
os.makedirs("images")
open("images/a.png", "w").close()
for line in sys.stdin.read().splitlines():
    print(f"{line} -> {main(line.split())}", file=sys.stderr, flush=True)
"""


def test_every_command_runs_or_names_its_extra(tmp_path):
    covered = {line.partition(" ")[0] for line in COMMAND_LINES}
    assert covered == {module.__name__.rpartition(".")[2] for module in COMMANDS}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input="\n".join(COMMAND_LINES),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = iter(done.stderr.splitlines())
    for command, extras in COMMAND_LINES.items():
        line = next(lines)
        if extras:
            name = command.partition(" ")[0]
            assert line.startswith(f"harope: error: harope {name} needs "), line
            named = line.partition("pip install 'harope[")[2].removesuffix("]'").split(",")
            assert set(named) <= {*extras, "train"}, line
            line = next(lines)
        assert line == f"{command} -> {2 if extras else 0}"
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_package_of_another_extra_is_named_with_that_extra():
    error = ModuleNotFoundError("No module named 'diffusers'", name="diffusers.models")
    advice = missing_package_advice(error, "harope train", "train")
    assert advice == "harope train needs diffusers: pip install 'harope[diffusers]'"


def test_the_name_in_the_index_is_shown():
    error = ModuleNotFoundError("No module named 'sklearn'", name="sklearn.datasets")
    assert "needs scikit-learn" in missing_package_advice(error, "harope train", "train")


def test_an_extra_of_extras_has_their_packages():
    error = ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    assert missing_package_advice(error, "harope bench", "bench").endswith("'harope[bench]'")


def test_a_missing_module_of_harope_is_a_bug(monkeypatch):
    monkeypatch.setitem(sys.modules, "harope.rope.presets", None)
    with pytest.raises(ModuleNotFoundError, match=r"harope\.rope\.presets"):
        main(["encodings"])
