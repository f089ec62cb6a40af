"""Tables and figures of the study, from result files whose numbers can be worked out by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.results.study import BEGIN, END, Section, part_lines, write_report
from scripts.results.study_data import Difference, holm
from scripts.study.study import Part

PART = Part(
    key="A",
    title="Two arms",
    recipe="scenes-dit",
    arms=("axial", "harope"),
    seeds=(0, 1, 2),
    steps=100,
    turn=0,
)
# Losses of axial and harope by seed: differences of -0.09, -0.10 and -0.11.
LOSSES = {"axial": (1.0, 1.2, 1.4), "harope": (0.91, 1.1, 1.29)}


def write_results(folder: Path, *, seeds: dict[str, int]) -> None:
    """Write the results of the first seeds of each arm."""
    (folder / PART.recipe).mkdir(parents=True)
    for arm, count in seeds.items():
        for seed in range(count):
            path = folder / PART.recipe / f"{arm}-{seed}.json"
            path.write_text(json.dumps(result_of(arm, seed)))


def result_of(arm: str, seed: int) -> dict:
    """Two layers of two heads; the heads of harope differ twice as much as those of axial."""
    half = {"axial": 0.5, "harope": 1.0}[arm]
    ablations = {"learned": 0.9, "rotation": 0.9 + 0.1 * (seed + 1), "mean": 1.0, "identity": 1.9}
    return {
        "measures": {"single_exact": 0.5, "next_loss": LOSSES[arm][seed]},
        "heads": {
            "attention_distance": {"0.5": [[3 - half, 3 + half], [2 - half, 2 + half]]},
            "attention_distance_std": {"0.5": [half, half]},
        },
        "ablations": {"next_loss": ablations} if arm == "harope" else {},
        "made_on": {"device": "CPU (x86_64)", "torch": "2.14.1", "training_seconds": 1800.0},
    }


def test_a_difference_has_students_interval_and_p_value():
    found = Difference.of([-0.09, -0.10, -0.11])
    assert found.mean == pytest.approx(-0.10)
    # The 0.975 quantile of Student's distribution at two degrees of freedom is 4.302653.
    assert found.high == pytest.approx(-0.10 + 4.302653 * 0.01 / 3**0.5, rel=1e-6)
    # t = 17.3205; at two degrees of freedom p = 1 - t / sqrt(t^2 + 2).
    t = 0.10 / (0.01 / 3**0.5)
    assert found.p == pytest.approx(1 - t / math.sqrt(t * t + 2), rel=1e-6)


def test_one_seed_has_no_interval_and_equal_differences_no_p_value():
    assert Difference.of([0.1]).low == -math.inf
    assert math.isnan(Difference.of([0.1]).p)
    assert math.isnan(Difference.of([0.1, 0.1]).p)


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_stays_monotone():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    corrected = holm([math.nan, 0.02, 0.5])
    assert math.isnan(corrected[0])
    assert corrected[1:] == pytest.approx([0.04, 0.5])


def test_a_part_shows_means_and_paired_differences(tmp_path):
    write_results(tmp_path, seeds={"axial": 3, "harope": 3})
    lines = "\n".join(part_lines(PART, tmp_path)).split("\n")
    assert "6 of 6 runs are finished." in lines
    assert "| arm | seeds | next_loss | single_exact | p of next_loss, Holm |" in lines
    assert "| `axial` | 0, 1, 2 | 1.20000 | 50.0 |  |" in lines
    assert (
        "| `harope` | 0, 1, 2 | -0.10000 [-0.12484, -0.07516] | +0.0 [+0.0, +0.0] | 0.00332 |"
        in lines
    )


def test_an_unfinished_part_uses_the_seeds_that_both_arms_have(tmp_path):
    write_results(tmp_path, seeds={"axial": 3, "harope": 2})
    lines = "\n".join(part_lines(PART, tmp_path)).split("\n")
    assert "5 of 6 runs are finished." in lines
    assert any(line.startswith("| `harope` | 0, 1 |") for line in lines)


def test_a_part_without_its_baseline_shows_no_table(tmp_path):
    write_results(tmp_path, seeds={"harope": 3})
    assert part_lines(PART, tmp_path) == [
        "### A. Two arms",
        "",
        "3 of 6 runs are finished.",
        "",
    ]


def test_the_page_keeps_its_text_and_is_the_same_when_written_twice(tmp_path):
    write_results(tmp_path, seeds={"axial": 3, "harope": 3})
    page = tmp_path / "study.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_report([Section("On a CPU", "study", tmp_path, [PART])], page)
    first = page.read_text()
    assert first.startswith(f"before\n{BEGIN}\n")
    assert first.endswith(f"{END}\nafter\n")
    assert "old" not in first
    assert (tmp_path / "study-primary.svg").stat().st_size > 1000
    write_report([Section("On a CPU", "study", tmp_path, [PART])], page)
    assert page.read_text() == first


def test_a_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "study.md"
    page.write_text("text")
    with pytest.raises(ValueError, match="has no lines"):
        write_report([Section("On a CPU", "study", tmp_path, [PART])], page)


def test_ablations_and_heads_are_reported(tmp_path):
    write_results(tmp_path, seeds={"axial": 3, "harope": 3})
    text = "\n".join(part_lines(PART, tmp_path))
    # Increases of 0.1, 0.2 and 0.3; the quantile is that of the first test.
    width = 4.302653 * 0.1 / 3**0.5
    low, high = f"{0.2 - width:+.5f}", f"{0.2 + width:+.5f}"
    assert f"| `harope` | 0.90000 | +0.20000 [{low}, {high}] | +0.10000 [" in text
    assert "| `axial` | 0.500 | +1.00 |" in text
    assert "| `harope` | +0.500 [+0.500, +0.500] | +1.00 |" in text


def test_accuracies_at_other_sizes_are_reported_by_method(tmp_path):
    part = replace(PART, recipe="fashion-vit", primary="top1")
    folder = tmp_path / part.recipe
    folder.mkdir()
    for arm, gain in (("axial", 0.0), ("harope", 0.02)):
        for seed in range(2):
            sizes = {"20": 0.5 + gain + 0.01 * seed, "56": 0.25 + gain}
            result = {
                "measures": {"top1": 0.9},
                "heads": {},
                "ablations": {},
                # Only axial has scaled positions.
                "resolutions": {"none": sizes} | ({"ntk": sizes} if arm == "axial" else {}),
            }
            (folder / f"{arm}-{seed}.json").write_text(json.dumps(result))
    text = "\n".join(part_lines(part, tmp_path))
    assert "| positions | arm | 20 | 56 |" in text
    assert "| none | `axial` | 50.5 | 25.0 |" in text
    assert "| none | `harope` | +2.0 [+2.0, +2.0] | +2.0 [+2.0, +2.0] |" in text
    assert "| ntk | `harope` |  |  |" in text


def test_the_page_names_devices_and_shows_the_heads(tmp_path):
    write_results(tmp_path, seeds={"axial": 2, "harope": 2})
    page = tmp_path / "study.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    write_report([Section("On a GPU", "study-gpu", tmp_path, [PART])], page)
    text = page.read_text()
    assert "4 runs, trained in 2.0 hours in all, on CPU (x86_64) with torch 2.14.1." in text
    assert "(study-gpu-heads-A.svg)" in text
    assert (tmp_path / "study-gpu-heads-A.svg").stat().st_size > 1000
