"""Entry point of `harope compare`: plan, train in parallel, score, report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harope._utils.folder_lock import lock_folder
from harope._utils.identity import check_unused
from harope._utils.interruption import stopped_by_signals
from harope.lab.experiments.compare.contrasts import Comparison, best_rate_controls, list_contrasts
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.page import write_comparison
from harope.lab.experiments.compare.plan import CompareConfig, plan_comparison
from harope.lab.experiments.compare.pool import run_jobs, worker_environments
from harope.lab.training.logging import read_metrics
from harope.lab.training.task import RunConfig

LINES = 50
"""Points of a learning curve."""
CHECKPOINTS = 20
"""Minimum number of checkpoints per run: an interruption costs at most a twentieth of a run."""


def run_comparison(
    config: CompareConfig, base: RunConfig, out: Path, log: Callable[[str], None]
) -> Comparison:
    """Train all arms with all seeds and write the report.

    Runs that an earlier call finished are reused, and interrupted ones resume from their last
    checkpoint.

    Args:
        config: Arms, seeds and controls.
        base: Configuration shared by all arms.
        out: Folder of the comparison.
        log: Called with each line of progress.

    Returns:
        Results of all runs.

    Raises:
        ValueError: The folder holds something else, another process uses it, the plan is invalid, a
            run folder holds another run, runs failed, or a stored result is damaged.
        InterruptedBySignalError: SIGINT or SIGTERM stopped the comparison and its runs.
    """
    # A comparison writes its jobs first.
    if out.is_dir() and not (out / "jobs").is_dir():
        check_unused(out, "comparison")
    with (
        stopped_by_signals("repeat the command to resume the comparison"),
        lock_folder(out) as former,
    ):
        if former is not None:
            log(f"{out} was locked by {former}, which has ended")
        return _run_locked(config, base, out, log)


def _run_locked(
    config: CompareConfig, base: RunConfig, out: Path, log: Callable[[str], None]
) -> Comparison:
    base = replace(
        base,
        log_every=max(1, base.steps // LINES),
        checkpoint_every=min(base.checkpoint_every, max(1, base.steps // CHECKPOINTS)),
    )
    plan = plan_comparison(config, base)
    # All arms of a seed come first, so that early results can be compared.
    jobs = {
        (arm.name, seed): Job(
            name=f"{arm.folder}-{seed}", config=arm.config(base, seed), scoring=config.scoring
        )
        for seed in config.seeds
        for arm in plan.arms
    }
    environments = worker_environments(config.workers)
    parallel = min(len(environments), len(jobs))
    log(f"{len(plan.arms)} arms x {len(config.seeds)} seeds, {parallel} runs in parallel")
    for note in plan.notes:
        log(f"note: {note}")
    run_jobs(list(jobs.values()), out, environments, log, nice=config.nice)
    jobs_by_arm = {arm.name: [jobs[arm.name, seed] for seed in config.seeds] for arm in plan.arms}
    metrics = _read_metrics(jobs_by_arm, out)
    best = best_rate_controls(plan.arms, metrics)
    comparison = Comparison(
        plan=plan,
        config=base,
        seeds=config.seeds,
        jobs=jobs_by_arm,
        metrics=metrics,
        curves={
            name: [read_metrics(job.run_folder(out)) for job in runs]
            for name, runs in jobs_by_arm.items()
        },
        scoring=config.scoring,
        best_rates=best,
        contrasts=tuple(list_contrasts(plan.arms, plan.wide_controls, best)),
    )
    write_comparison(comparison, out)
    return comparison


def _read_metrics(
    jobs: Mapping[str, Sequence[Job]], out: Path
) -> dict[str, list[dict[str, float]]]:
    """Return the metrics of all runs by arm, after checking that all runs have the same ones."""
    metrics: dict[str, list[dict[str, float]]] = {}
    first: dict[str, float] | None = None
    for name, runs in jobs.items():
        for job in runs:
            found = job.metrics(out)
            assert found is not None, f"run_jobs has finished {job.name}"
            first = first or found
            if differing := set(first) ^ set(found):
                raise ValueError(
                    f"{job.result_file(out)} and the results of other runs do not have the same "
                    f"metrics ({', '.join(sorted(differing))}); delete it and repeat the command "
                    f"to measure the run again"
                )
            metrics.setdefault(name, []).append({metric: found[metric] for metric in first})
    return metrics
