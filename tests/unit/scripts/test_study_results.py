"""Tables and figures of the study, from result files whose numbers can be worked out by hand."""

import json
import math
from pathlib import Path

import pytest

from scripts.results.study import (
    BEGIN,
    END,
    Arm,
    Difference,
    PartReport,
    holm,
    part_lines,
    write_report,
)

PART = PartReport(
    key="A",
    title="Two arms",
    recipe="scenes-dit",
    arms=(Arm(name="axial", folder="axial"), Arm(name="harope", folder="harope")),
    seeds=(0, 1, 2),
    primary="next_loss",
)
# Losses of axial and harope by seed: differences of -0.09, -0.10 and -0.11.
LOSSES = {"axial": (1.0, 1.2, 1.4), "harope": (0.91, 1.1, 1.29)}


def write_results(folder: Path, *, seeds: dict[str, int]) -> None:
    """Write the results of the first seeds of each arm."""
    (folder / PART.recipe).mkdir(parents=True)
    for arm, count in seeds.items():
        for seed in range(count):
            measures = {"single_exact": 0.5, "next_loss": LOSSES[arm][seed]}
            path = folder / PART.recipe / f"{arm}-{seed}.json"
            path.write_text(json.dumps({"measures": measures}))


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
    lines = part_lines(PART, tmp_path)
    assert "6 of 6 runs are finished." in lines
    assert "| arm | seeds | next_loss | single_exact | p of next_loss, Holm |" in lines
    assert "| `axial` | 0, 1, 2 | 1.20000 | 50.0 |  |" in lines
    assert (
        "| `harope` | 0, 1, 2 | -0.10000 [-0.12484, -0.07516] | +0.0 [+0.0, +0.0] | 0.00332 |"
        in lines
    )


def test_an_unfinished_part_uses_the_seeds_that_both_arms_have(tmp_path):
    write_results(tmp_path, seeds={"axial": 3, "harope": 2})
    lines = part_lines(PART, tmp_path)
    assert "5 of 6 runs are finished." in lines
    assert any(line.startswith("| `harope` | 0, 1 |") for line in lines)


def test_a_part_without_its_baseline_shows_no_table(tmp_path):
    write_results(tmp_path, seeds={"harope": 3})
    assert part_lines(PART, tmp_path) == ["### A. Two arms", "", "3 of 6 runs are finished.", ""]


def test_the_page_keeps_its_text_and_is_the_same_when_written_twice(tmp_path):
    write_results(tmp_path, seeds={"axial": 3, "harope": 3})
    page = tmp_path / "study.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_report([PART], tmp_path, page)
    first = page.read_text()
    assert first.startswith(f"before\n{BEGIN}\n")
    assert first.endswith(f"{END}\nafter\n")
    assert "old" not in first
    assert (tmp_path / "study-primary.png").stat().st_size > 1000
    write_report([PART], tmp_path, page)
    assert page.read_text() == first


def test_a_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "study.md"
    page.write_text("text")
    with pytest.raises(ValueError, match="has no lines"):
        write_report([PART], tmp_path, page)
