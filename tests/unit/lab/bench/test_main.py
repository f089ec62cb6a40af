"""What the benchmark prints and writes."""

import json

import pytest
import torch
from PIL import Image

from harope.lab.bench import grids, main
from harope.lab.bench.hardware import describe_hardware
from harope.lab.bench.main import (
    BenchConfig,
    BenchReport,
    format_report,
    run_bench,
    write_report,
)
from harope.lab.bench.targets import TargetRow
from harope.lab.bench.timing import Spread, Timing


@pytest.fixture
def report() -> BenchReport:
    timings = {"copy": Timing((1.0, 1.0)), "harope": Timing((2.0, 2.0))}
    rows = [TargetRow("fast / harope", Spread(3.0, 2.0, 4.0), 2.5, at_least=True)]
    rows.append(TargetRow("harope / axial", Spread(1.1, 1.1, 1.1), 1.03))
    points = {64: timings, 256: timings}
    sweeps = {"tokens": points, "heads": points}
    return BenchReport(
        {"device": "a machine"}, rows, {**timings, "step: axial": timings["copy"]}, sweeps
    )


def test_ratios_are_shown_with_their_targets(report):
    lines = [" ".join(line.split()) for line in format_report(report).splitlines()]
    assert "device: a machine" in lines
    assert "fast / harope 3 2 to 4 >= 2.5 met" in lines
    assert "harope / axial 1.1 <= 1.03 missed" in lines
    assert "harope 2000.00 2000.00 to 2000.00 2.00" in lines
    assert "step: axial 1000.00 1000.00 to 1000.00" in lines


def test_everything_is_written(report, tmp_path):
    write_report(report, tmp_path / "new")
    values = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert values["rows"][1]["met"] is False
    assert values["timings"]["harope"] == [2.0, 2.0]
    assert values["sweeps"]["tokens"]["256"]["copy"] == [1.0, 1.0]
    with Image.open(tmp_path / "new" / "bench.png") as picture:
        assert picture.width > picture.height


def test_the_machine_is_described_with_its_threads_and_versions():
    facts = describe_hardware(torch.device("cpu"))
    assert facts["threads"] == str(torch.get_num_threads())
    assert facts["torch"] == torch.__version__.partition("+")[0]


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="not available on this machine; use cpu"):
        BenchConfig(device="cuda")


def test_each_part_of_the_benchmark_is_announced(monkeypatch):
    timings = {"copy": Timing((1.0,))}
    row = TargetRow("a / b", Spread(1.0, 1.0, 1.0), 1.0)
    monkeypatch.setattr(main, "_measure_rotation", lambda *_: ([], {}))
    monkeypatch.setattr(main, "step_rows", lambda *_, **__: ([row], timings))
    monkeypatch.setattr(main, "forward_rows", lambda *_, **__: ([row], timings))
    monkeypatch.setattr(main, "memory_row", lambda *_: row)
    monkeypatch.setattr(main, "repeated_row", lambda *_: row)
    for rotations in ("eager_rotations", "peer_rotations", "complex_rotations"):
        monkeypatch.setattr(grids, rotations, lambda *_: {})
    monkeypatch.setattr(grids, "time_interleaved", lambda *_, **__: timings)
    monkeypatch.setattr(grids, "AXES", {"tokens": (64, 256)})
    monkeypatch.setattr(main, "AXES", grids.AXES)
    lines: list[str] = []
    shown: list[str] = []
    config = BenchConfig(threads=torch.get_num_threads())
    report = run_bench(config, log=lines.append, show=shown.append)
    assert lines == [
        "training steps of DiT-S/2",
        "forward passes of DiT-S/2",
        "memory of a training step, operators of a sampling loop",
        "rotations, eager and compiled",
        "rotations with 64 tokens",
        "rotations with 256 tokens",
    ]
    assert len(report.rows) == 4
    assert shown == ["  a / b  1  <= 1  met"] * 4
