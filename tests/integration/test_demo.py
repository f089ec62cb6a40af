import json
import re
import subprocess
import sys

import pytest
import torch

import harope
from harope.cli.main import main
from harope.lab.evals.scenes import scene_labels
from harope.lab.experiments.demo import DemoConfig, run_demo
from harope.lab.experiments.demo.main import peak_memory_gib
from harope.lab.experiments.demo.parts import PARTS, install_harope, released_folder
from harope.lab.experiments.demo.progress import DemoProgress
from harope.lab.scenes import decode_class
from harope.models.dit import DiT
from support.page import checked_page

TINY = DemoConfig(
    steps=2,
    batch_size=2,
    digit_steps=2,
    rounds=1,
    num_steps=1,
    pictures=4,
    images=1,
    held_out=2,
    repeats=1,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished demo and the lines that it printed."""
    out, lines = tmp_path_factory.mktemp("demo") / "demo", []
    run_demo(TINY, out, lines.append)
    return out, lines


def test_the_page_has_all_parts_and_says_what_to_conclude(demo):
    out, _ = demo
    text = (out / "report.html").read_text()
    titles = checked_page(text)
    # Three grids of pictures and two moments of digits; heads and scores.
    assert text.count("<img") == 3 + 2
    assert text.count("<svg ") == 2
    assert "equal bit for bit" in text
    assert "no evidence that it is better" in text
    assert "harope.install(model)" in text
    scores = json.loads((out / "demo.json").read_text())["results"]["scores"]["columns"]
    assert len(titles) > 10
    exact = scores["axial"]["exact"]
    rate = 100 * exact["successes"] / exact["total"]
    assert any(f"RoPE (axial), all pictures: everything right: {rate:.1f} %" in t for t in titles)


def test_progress_has_parts_and_the_time_left(demo):
    _, lines = demo
    parts = [line for line in lines if line.startswith("[")]
    assert len(parts) == len(PARTS)
    assert parts[0].startswith("[1/6] sampling a released model")
    assert all(re.search(r", about (\d+ min )?\d+ s left$", line) for line in lines)


def test_the_same_command_again_has_nothing_to_do(demo):
    out, _ = demo
    before, lines = (out / "report.html").stat().st_mtime_ns, []
    run_demo(TINY, out, lines.append)
    assert len(lines) == 1
    assert "nothing to do" in lines[0]
    assert (out / "report.html").stat().st_mtime_ns == before


def test_an_interrupted_demo_goes_on_with_the_parts_that_are_missing(demo):
    out, _ = demo
    state = json.loads((out / "demo.json").read_text())
    costs = state["results"].pop("costs")
    (out / "demo.json").write_text(json.dumps(state))
    (out / "report.html").unlink()
    lines = []
    run_demo(TINY, out, lines.append)
    assert lines[0] == "going on: 5 of 6 parts exist"
    assert lines[1].startswith("[1/1] measuring times")
    again = json.loads((out / "demo.json").read_text())["results"]
    assert again["scores"] == state["results"]["scores"]
    assert again["costs"]["batch_size"] == costs["batch_size"]
    assert (out / "report.html").is_file()


def test_another_demo_and_a_foreign_folder_are_refused(demo, tmp_path, capsys):
    out, _ = demo
    before = sorted(out.rglob("*"))
    assert main(["demo", "--out", str(out), "--steps", "3"]) == 2
    assert "config.steps 2, not 3" in capsys.readouterr().err
    assert sorted(out.rglob("*")) == before
    (tmp_path / "photo.png").write_bytes(b"x")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "not empty and holds no demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
    assert main(["demo", "--out", str(tmp_path / "new"), "--steps", "0"]) == 2
    assert "steps" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_only_matrices_are_trained_and_the_folded_model_is_the_same_without_them(demo):
    out, _ = demo
    before, trained = install_harope(), DiT.from_pretrained(out / "harope")
    changed = [
        name
        for (name, old), new in zip(before.named_parameters(), trained.parameters(), strict=True)
        if not torch.equal(old, new)
    ]
    assert changed
    assert all(".harope." in name for name in changed)
    folded = DiT.from_pretrained(out / "folded")
    assert not harope.encoding_parameters(folded)
    x, t, y = torch.randn(2, 3, 32, 32), torch.full((2,), 300.0), torch.tensor([3, 70])
    with torch.no_grad():
        torch.testing.assert_close(folded(x, t, y), trained(x, t, y), rtol=1e-4, atol=1e-4)


def test_models_of_the_demo_can_be_sampled_as_its_page_says(demo, tmp_path):
    out, _ = demo
    for name in ("harope", "folded"):
        command = ["sample", str(out / name), "--count", "1", "--out", str(tmp_path / name)]
        assert main([*command, "--num-steps", "1"]) == 0
        assert (tmp_path / name / "000000.png").is_file()


def test_samples_of_the_demo_are_evaluated_on_a_page(demo, tmp_path, capsys):
    out, _ = demo
    folder = str(out / "samples" / "axial")
    assert main(["evaluate", "scenes", folder, "--page", str(tmp_path / "page")]) == 0
    assert capsys.readouterr().out.endswith(f"page: {tmp_path / 'page' / 'scores.html'}\n")
    text = (tmp_path / "page" / "scores.html").read_text()
    checked_page(text)
    assert "The first 40 of the scored samples" in text


def test_installing_changes_no_bit_and_a_matrix_that_is_not_the_identity_does():
    model, plain = install_harope(), DiT.from_pretrained(released_folder("axial"))
    x, t, y = torch.randn(1, 3, 32, 32), torch.full((1,), 300.0), torch.tensor([3])
    with torch.no_grad():
        assert torch.equal(model(x, t, y), plain(x, t, y))
        model.layers[0].attn.harope.basis.raw_scale[:, 0] += 1
        assert not torch.equal(model(x, t, y), plain(x, t, y))


def test_progress_estimates_from_its_own_pace(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("harope.lab.experiments.demo.progress.time.perf_counter", lambda: now[0])
    lines = []
    progress = DemoProgress({"a": 20.0, "b": 80.0}, lines.append)
    progress.begin("a", "first")
    now[0] = 3.0
    progress.update(1, 4, "step")  # Too early for another line.
    now[0] = 50.0
    progress.begin("b", "second")
    now[0] = 130.0
    progress.update(1, 2, "step")
    # 50 s for 20 estimated ones, with 10 s of the estimates for a start.
    assert lines == [
        "[1/2] first, about 1 min 40 s left",
        "[2/2] second, about 2 min 40 s left",
        "      step 1 of 2, about 1 min 20 s left",
    ]


def test_the_demo_asks_for_every_object_alone_and_in_different_numbers():
    labels = scene_labels(rounds=5)
    asked = [decode_class(label) for label in labels]
    for kind in ("circle", "square", "triangle", "star", "cross"):
        counts = [count for k, color, count in asked if (k, color) == (kind, "red")]
        assert sorted(counts) == [1] * 5 + [2, 3, 4, 5, 6]


def test_the_demo_can_be_imported_where_there_is_no_module_resource():
    code = """
import sys
sys.modules["resource"] = None  # As on Windows, where psutil does not need it.
sys.modules["psutil"] = type(sys)("psutil")
from harope.lab.experiments.demo.main import peak_memory_gib
assert peak_memory_gib() is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_memory_of_this_process_is_that_of_python_with_torch():
    memory = peak_memory_gib()
    assert memory is not None
    assert 0.1 < memory < 64
