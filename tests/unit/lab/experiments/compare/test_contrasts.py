"""Paired differences, by hand."""

import pytest

from harope.lab.experiments.compare.arms import Arm
from harope.lab.experiments.compare.contrasts import (
    Contrast,
    best_rate_controls,
    list_contrasts,
)
from harope.lab.metrics.intervals import Mean, format_mean
from support.compare import made_comparison

# Student's 0.975 quantile at two degrees of freedom.
T = 4.302653


def arm(name, kind, group=""):
    return Arm(name=name, folder=name, kind=kind, changes={}, group=group)


def test_a_difference_is_paired_by_seed():
    found = made_comparison()
    difference = found.contrasts[0].difference(found.metrics, "next_loss")
    # 0.09, 0.1 and 0.11 less, though seeds differ by 0.2.
    assert difference.value == pytest.approx(-0.1)
    assert difference.high == pytest.approx(-0.1 + T * 0.01 / 3**0.5, rel=1e-6)
    assert found.mean("axial", "next_loss").high == pytest.approx(1.2 + T * 0.2 / 3**0.5, rel=1e-6)


def test_shares_are_in_points():
    found = made_comparison()
    difference = found.contrasts[0].difference(found.metrics, "top1")
    # 0, +10 and -10 points: mean 0, deviation 10.
    assert difference.value == pytest.approx(0)
    assert difference.high == pytest.approx(T * 10 / 3**0.5, rel=1e-6)


def test_the_best_rate_has_the_smallest_mean_loss_the_baselines_own_included():
    arms = [arm("axial", "encoding"), arm("harope", "encoding"), arm("fast", "rate")]
    values = {"axial": [{"next_loss": 1.0}], "harope": [{"next_loss": 0.0}]}
    better, worse = ({"fast": [{"next_loss": loss}]} for loss in (0.9, 1.1))
    assert best_rate_controls(arms, values | better) == {"axial": "fast"}
    assert best_rate_controls(arms, values | worse) == {"axial": "axial"}
    assert best_rate_controls(arms[:2], values) == {}


def test_contrasts_are_encodings_then_controls():
    arms = [
        arm("axial", "encoding"),
        arm("harope", "encoding"),
        arm("ape", "encoding"),
        arm("wide", "wide"),
        arm("fast", "rate"),
    ]
    found = list_contrasts(arms, {"harope": "wide"}, {"axial": "fast"})
    assert [(contrast.arm, contrast.other) for contrast in found] == [
        ("harope", "axial"),
        ("ape", "axial"),
        ("harope", "wide"),
        ("harope", "fast"),
        ("ape", "fast"),
        ("wide", "axial"),
        ("fast", "axial"),
    ]
    # At its own rate being best, there is nothing more to set beside it.
    own = list_contrasts(arms, {}, {"axial": "axial"})
    assert ("harope", "fast") not in [(contrast.arm, contrast.other) for contrast in own]


def test_forms():
    assert format_mean(Mean(1.25, -0.5, 3.0), "+.1f") == "+1.2 [-0.5, +3.0]"
    assert Contrast("a", "b", "").name == "a - b"


def test_every_group_has_contrasts_with_its_own_baseline_and_controls():
    arms = [
        arm("axial", "encoding"),
        arm("axial-n", "encoding", "norm"),
        arm("harope", "encoding"),
        arm("harope-n", "encoding", "norm"),
        arm("wide", "wide"),
        arm("wide-n", "wide", "norm"),
    ]
    found = list_contrasts(arms, {"harope-n": "wide-n"}, {})
    assert [(contrast.arm, contrast.other) for contrast in found] == [
        ("harope", "axial"),
        ("wide", "axial"),
        ("harope-n", "axial-n"),
        ("harope-n", "wide-n"),
        ("wide-n", "axial-n"),
    ]
