"""Comparisons small enough to make in a test."""

from dataclasses import replace
from pathlib import Path

from harope.lab.experiments.compare.arms import lr_controls, parse_arm
from harope.lab.experiments.compare.contrasts import Comparison, best_rate_controls, list_contrasts
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.plan import Plan
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.recipes import get_recipe
from harope.lab.recipes.recipe import shrink_dit, shrink_vit
from harope.lab.recipes.scenes import scenes_dit
from harope.lab.recipes.vit import digits_vit

SCENES = shrink_dit(scenes_dit())
SIX = SampleScoreConfig(samples=6)
DIGITS = shrink_vit(digits_vit())


def smoke(recipe: str, folder: Path):
    """The smoke form of a recipe."""
    return get_recipe(recipe).smoke(folder)


def made_comparison() -> Comparison:
    """Three seeds, whose differences can be worked out by hand; no run behind it."""
    axial, harope = (parse_arm(name, DIGITS) for name in ("axial", "harope"))
    arms = (axial, harope, *lr_controls(axial, (2.0,)))
    values = {
        "axial": [{"next_loss": 1.0, "top1": 0.5}, {"next_loss": 1.2, "top1": 0.6},
                  {"next_loss": 1.4, "top1": 0.7}],
        "harope": [{"next_loss": 0.91, "top1": 0.5}, {"next_loss": 1.1, "top1": 0.7},
                   {"next_loss": 1.29, "top1": 0.6}],
        arms[2].name: [{"next_loss": 0.8, "top1": 0.5}, {"next_loss": 1.2, "top1": 0.6},
                       {"next_loss": 1.5, "top1": 0.7}],
    }  # fmt: skip
    plan = Plan(
        arms=arms,
        parameters={"axial": 1000, "harope": 1100, arms[2].name: 1000},
        wide_controls={},
        notes=("no wider one",),
    )
    best = best_rate_controls(arms, values)
    return Comparison(
        plan=plan,
        config=DIGITS,
        seeds=(0, 1, 2),
        jobs={
            arm.name: [
                Job(name=f"{arm.folder}-{seed}", config=arm.config(DIGITS, seed), scoring=SIX)
                for seed in (0, 1, 2)
            ]
            for arm in arms
        },
        metrics=values,
        curves={
            arm.name: [
                [{"images": 4 * step, "loss": (1 + seed) / step} for step in (1, 2, 3)]
                for seed in (0, 1, 2)
            ]
            for arm in arms
        },
        scoring=SIX,
        best_rates=best,
        contrasts=tuple(list_contrasts(arms, {}, best)),
    )


def tiny_job(encoding: str = "harope", seed: int = 0, samples: int = 6) -> Job:
    """Two steps of scenes."""
    config = replace(SCENES, steps=2, log_every=1, seed=seed)
    arm = parse_arm(encoding, config)
    return Job(
        name=f"{encoding}-{seed}",
        config=arm.config(config, seed),
        scoring=SampleScoreConfig(samples=samples),
    )
