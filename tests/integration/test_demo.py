import re
import subprocess
import sys

from harope.lab.evals.scenes import scene_labels
from harope.lab.experiments.demo import DemoConfig, run_demo
from harope.lab.experiments.demo.main import peak_memory_gib
from harope.lab.scenes import decode_class


def test_the_demo_trains_samples_scores_and_writes_one_page(tmp_path):
    config = DemoConfig(steps=1, rounds=1, num_steps=1)
    page = run_demo(config, tmp_path / "demo")
    text = page.read_text()
    for name in ("harope, this demo", "axial, this demo", "harope-v1, released", "axial, released"):
        assert name in text
    sources = re.findall(r'src="([^"]{0,30})', text)
    assert len(sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    before = page.stat().st_mtime_ns
    run_demo(config, tmp_path / "demo")
    assert page.stat().st_mtime_ns > before


def test_the_demo_asks_for_every_object_alone_and_in_different_numbers():
    labels = scene_labels(rounds=5)
    asked = [decode_class(label) for label in labels]
    for kind in ("circle", "square", "triangle", "star", "cross"):
        counts = [count for k, color, count in asked if (k, color) == (kind, "red")]
        assert sorted(counts) == [1] * 5 + [2, 3, 4, 5, 6]


def test_the_demo_can_be_imported_where_there_is_no_module_resource():
    code = """
import sys
sys.modules["resource"] = None  # As on Windows.
from harope.lab.experiments.demo.main import peak_memory_gib
assert peak_memory_gib() is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_memory_of_this_process_is_that_of_python_with_torch():
    memory = peak_memory_gib()
    assert memory is not None
    assert 0.1 < memory < 64
