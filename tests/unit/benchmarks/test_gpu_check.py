"""The check on one GPU: its command, its list of parts, and machines with few packages."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import environment, evidence, kernel_speed, kernels, models, training
from benchmarks.gpu.bench import Bench, Part, attempt
from benchmarks.gpu.check import PARTS, main, select_parts
from benchmarks.gpu.stand_ins import Silent

ROOT = Path(__file__).parents[3]
MODULES = (environment, evidence, kernel_speed, kernels, models, training)


def run(*arguments: str, paths: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (*paths, ROOT / "src", ROOT)))
    variables = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)


def check(out: Path, parts: str, **options) -> dict:
    script = "benchmarks/gpu/check.py"
    done = run(script, "--tiny", "--cpu", "--out", str(out), "--only", parts, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == report
    return report


def hide_packages(folder: Path, *names: str) -> Path:
    """Make packages missing in processes that have the folder on their path."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def find_spec(name, path=None, target=None):\n"
        f"    hidden = name.partition('.')[0] in {names!r}\n"
        "    return None if hidden else find(name, path, target)\n"
        "PathFinder.find_spec = staticmethod(find_spec)\n"
    )
    return folder


def make_bench(out: Path | None = None, budget: float = 100.0) -> Bench:
    return Bench(torch.device("cpu"), tiny=True, budget=budget, out=out)


def test_the_command_runs_the_chosen_parts_and_writes_a_report(tmp_path):
    report = check(tmp_path / "gpu.json", "render_speed,environment,exponential")
    assert list(report["parts"]) == ["environment", "exponential", "render_speed"]
    assert report["failed"] == {}
    assert report["parts"]["environment"]["torch"] == torch.__version__.partition("+")[0]
    assert report["parts"]["exponential"]["high"]["error"] < 1e-5
    assert report["total_s"] >= sum(report["seconds"].values()) - 0.1


def test_one_script_measures_and_writes_the_page(tmp_path):
    words = ["--tiny", "--cpu", "--only", "environment,dit_plain,dit_folded"]
    done = subprocess.run(
        [ROOT / "benchmarks/gpu/run.sh", tmp_path, *words],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert set(report["parts"]) == {"environment", "dit_plain", "dit_folded"}
    assert report["parts"]["dit_plain"]["DiT-B/2"]["images_per_s"] > 0
    page = (tmp_path / "gpu.md").read_text()
    assert "**Not measured**" not in page
    assert "| plain DiT, not compiled | DiT-XL/2 |" in page
    # The ratio of two tiny forward passes, whatever it is.
    assert "| forward pass of DiT-B/2, compiled: harope, folded / axial | <= 1 | not" not in page


def test_the_check_runs_without_packages_that_a_gpu_machine_may_lack(tmp_path):
    hidden = hide_packages(tmp_path / "hidden", "tqdm", "tensorboard", "sklearn", "diffusers")
    report = check(tmp_path / "gpu.json", "environment,scenes_training", paths=(hidden,))
    assert report["failed"] == {}
    stand_ins = ["tqdm", "tqdm.auto"]
    assert report["parts"]["environment"]["stand_ins"] == stand_ins
    assert len(report["parts"]["scenes_training"]["harope"]["loss"]) == 4


def test_the_check_begins_without_packages_that_only_some_parts_need(tmp_path):
    hidden = hide_packages(tmp_path / "hidden", "accelerate", "pydantic", "timm", "triton")
    report = check(tmp_path / "gpu.json", "environment,exponential,render_speed", paths=(hidden,))
    assert report["failed"] == {}


def test_triton_is_not_imported_before_its_interpreter_is_chosen():
    done = run("-c", "import sys, benchmarks.gpu.check; print('triton' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_every_part_is_listed():
    functions = {
        function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and list(inspect.signature(function).parameters) == ["bench"]
    }
    assert functions == {part.run for part in PARTS}
    assert [part.name for part in PARTS] == [part.run.__name__ for part in PARTS]


def test_parts_keep_their_order():
    names = [part.name for part in select_parts("imports,timm_host", tiny=True)]
    assert names == ["timm_host", "imports"]


def test_tiny_runs_leave_out_what_compiles_for_long():
    left_out = set(PARTS) - set(select_parts(None, tiny=True))
    names = {"dit_compiled", "dit_xl_compiled", "cuda_graphs", "normed_backward", "study"}
    assert {part.name for part in left_out} == names
    assert list(select_parts(None, tiny=False)) == list(PARTS)


@pytest.mark.parametrize(
    ("part", "reason"), [("nothing", "unknown"), ("cuda_graphs", "not run with --tiny")]
)
def test_a_wrong_part_is_one_line(part, reason, capsys):
    assert main(["--tiny", "--cpu", "--only", f"imports,{part}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"check: error: part '{part}' is {reason}; available: environment,")
    assert error.count("\n") == 1


def test_a_failure_does_not_end_the_check(tmp_path, capsys):
    def fail(bench: Bench) -> dict:
        raise ValueError("wrong")

    bench = make_bench(tmp_path / "out.json")
    bench.run(Part("first", fail))
    bench.run(Part("second", lambda bench: {"value": 1}))
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["parts"] == {"second": {"value": 1}}
    assert report["failed"] == {"first": "ValueError: wrong"}
    assert "FAILED" in capsys.readouterr().out


def test_parts_are_skipped_when_the_budget_is_spent():
    bench = make_bench(budget=10.0)
    bench.run(Part("long", lambda bench: {}, needs=20.0))
    assert bench.finish().failed == {"long": "skipped: 10 s left"}


def test_times_are_medians_in_milliseconds():
    assert 0 < make_bench().milliseconds(lambda: sum(range(1000))) < 1000


def test_an_error_is_a_result():
    assert attempt(lambda: 3) == 3
    assert attempt(lambda: [][1], length=4) == "IndexError: list"


def test_a_missing_package_fails_the_part():
    def measure(bench: Bench) -> dict:
        return {"value": attempt(lambda: importlib.import_module("no_such_package"))}

    bench = make_bench()
    bench.run(Part("part", measure))
    assert bench.report.failed == {"part": "ModuleNotFoundError: No module named 'no_such_package'"}
    assert bench.report.parts == {}


def test_a_kernel_that_returns_wrong_numbers_is_found():
    exact = [torch.linspace(1, 2, 5, dtype=torch.float64)]
    rounded = [exact[0].bfloat16()]
    assert kernels.roundings(rounded, exact) <= 1
    assert kernels.roundings([rounded[0] + 0.125], exact) > 1
    assert not kernels.roundings([rounded[0] * torch.nan], exact) <= 1
    assert not kernels.relative_error([exact[0] * torch.nan], exact) < 1e-5


def test_stand_ins_accept_every_call():
    with Silent(range(3), desc="steps") as bar:
        assert list(bar) == [0, 1, 2]
        assert bar.set_postfix(loss=1) is None
