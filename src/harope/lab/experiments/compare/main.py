"""What `harope compare` does: plan, train side by side, measure, report."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harope.lab.experiments.compare.contrasts import Comparison, best_rate_controls, list_contrasts
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.page import write_comparison
from harope.lab.experiments.compare.plan import CompareConfig, plan_comparison
from harope.lab.experiments.compare.pool import run_jobs, worker_environments
from harope.lab.training.config import RunConfig
from harope.lab.training.logging import read_metrics

LINES = 50
"""Points of a learning curve."""
CHECKPOINTS = 20
"""Checkpoints of a run at least, so that a stop costs a twentieth of it at most."""


def run_comparison(
    config: CompareConfig, base: RunConfig, out: Path, say: Callable[[str], None]
) -> Comparison:
    """Train all arms with all seeds, going on where an earlier call stopped, and report into `out`.

    `say` is told in a line what is done. Raises ValueError where the plan does not fit, a run's
    folder holds another one, or runs failed.
    """
    base = replace(
        base,
        log_every=max(1, base.steps // LINES),
        checkpoint_every=min(base.checkpoint_every, max(1, base.steps // CHECKPOINTS)),
    )
    plan = plan_comparison(config, base)
    # All arms of a seed first: what is there early can be compared.
    jobs = {
        (arm.name, seed): Job(
            name=f"{arm.folder}-{seed}", config=arm.config(base, seed), scoring=config.scoring
        )
        for seed in config.seeds
        for arm in plan.arms
    }
    environments = worker_environments(config.workers)
    side_by_side = min(len(environments), len(jobs))
    say(f"{len(plan.arms)} arms x {len(config.seeds)} seeds, {side_by_side} runs side by side")
    for note in plan.notes:
        say(f"note: {note}")
    run_jobs(list(jobs.values()), out, environments, say, nice=config.nice)
    own = {arm.name: [jobs[arm.name, seed] for seed in config.seeds] for arm in plan.arms}
    found = {name: [job.metrics(out) for job in runs] for name, runs in own.items()}
    values = {name: [m for m in measures if m is not None] for name, measures in found.items()}
    best = best_rate_controls(plan.arms, values)
    comparison = Comparison(
        plan=plan,
        config=base,
        seeds=config.seeds,
        jobs=own,
        values=values,
        curves={
            name: [read_metrics(job.run_folder(out)) for job in runs] for name, runs in own.items()
        },
        scoring=config.scoring,
        best_rates=best,
        contrasts=tuple(list_contrasts(plan.arms, plan.wide_controls, best)),
    )
    write_comparison(comparison, out)
    return comparison
