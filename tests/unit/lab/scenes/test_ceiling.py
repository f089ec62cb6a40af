from dataclasses import replace

import pytest
import torch

from harope.lab.scenes.ceiling import DEGRADATIONS, Degradation, degrade, is_exact, measure_ceiling
from harope.lab.scenes.grammar import CLASS_TASK, TASKS, Scene, Shape

FIRST = Shape("star", "red", 0.11, 0.3, 0.3)
SECOND = Shape("cross", "blue", 0.15, 0.7, 0.7)


def test_reading_is_exact_in_any_order_and_within_the_tolerances():
    near = replace(FIRST, x=0.32, radius=0.125)
    assert is_exact(Scene((SECOND, near)), Scene((FIRST, SECOND)))


@pytest.mark.parametrize(
    "reading",
    [
        (FIRST,),
        (FIRST, SECOND, SECOND),
        (FIRST, replace(SECOND, kind="circle")),
        (FIRST, replace(SECOND, color="red")),
        (FIRST, replace(SECOND, x=0.74)),
        (FIRST, replace(SECOND, radius=0.18)),
    ],
)
def test_reading_with_one_error_is_not_exact(reading: tuple[Shape, ...]):
    assert not is_exact(Scene(reading), Scene((FIRST, SECOND)))


def test_ceiling_reports_every_task_under_every_degradation():
    rows = measure_ceiling(32, 2, seed=0)
    expected = [(task, how.name) for task in (*TASKS, CLASS_TASK) for how in DEGRADATIONS]
    assert [(row.task, row.degradation) for row in rows] == expected
    assert all(row.total == 2 for row in rows)
    assert all(row.exact == row.satisfied == 2 for row in rows if row.degradation == "clean")


def test_ceiling_depends_on_the_seed_alone():
    assert measure_ceiling(32, 1, seed=5) == measure_ceiling(32, 1, seed=5)


def test_clean_pictures_are_left_as_they_are():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(degrade(images, Degradation("clean"), 0), images)


def test_blur_spreads_a_point_as_a_gaussian():
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    blurred = degrade(point, Degradation("blur", blur=1.0), 0)[0, 0]
    offset = torch.arange(33) - 16
    assert (blurred.sum(0) * offset**2).sum().item() == pytest.approx(1.0, rel=0.01)


def test_noise_has_the_standard_deviation_asked_for():
    grey = torch.full((4, 3, 64, 64), 0.5)
    noisy = degrade(grey, Degradation("noise", noise=0.1), 0)
    assert noisy.std().item() == pytest.approx(0.1, rel=0.02)
