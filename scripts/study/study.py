"""The study of docs/results/study.md: the list of its runs, and the commands that execute them.

    python scripts/study/study.py plan                   list all runs and whether they are finished
    python scripts/study/study.py run --work DIR         train missing runs in order of priority
    python scripts/study/study.py collect --work DIR     copy results of finished runs into the docs

The result of a run is a small file, docs/results/study/RECIPE/RUN.json; runs that have one are not
trained again. Checkpoints stay in the working folder.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from harope._utils.atomic import write_json_atomic
from harope._utils.folder_lock import lock_folder
from harope.lab.experiments.compare.arms import Arm, parse_arm
from harope.lab.experiments.compare.job import Job, read_result
from harope.lab.experiments.compare.plan import CompareConfig, plan_comparison
from harope.lab.experiments.compare.pool import run_jobs, worker_environments
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.recipes import get_recipe
from harope.lab.training.task import RunConfig

RESULTS = Path("docs/results/study")
LOG_LINES, CHECKPOINTS = 50, 20
SAMPLES = 600
"""Number of images sampled from every run of a generative recipe."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the study: the runs that answer one question."""

    key: str
    """Letter in docs/results/study.md."""
    title: str
    """Title of its table."""
    recipe: str
    """Recipe of all runs."""
    arms: tuple[str, ...]
    """Arms, see harope.lab.experiments.compare.arms."""
    seeds: tuple[int, ...]
    """Seeds; each arm is trained once with each."""
    steps: int
    """Optimizer steps."""
    wide: bool = False
    """Whether to train controls of the baseline with as many parameters, in wider MLPs."""
    rates: tuple[float, ...] = ()
    """Multipliers of the learning rate of the baseline's query and key projections, one control
    each."""
    test_sizes: tuple[int, ...] = ()
    """Further image sizes, in pixels, at which classifiers are tested."""
    primary: str = "next_loss"
    """Metric that decides: by default the EMA loss on new images."""
    turn: int
    """Place in the queue. Parts of the same turn are trained together, seed by seed."""

    def base(self) -> RunConfig:
        """Return the configuration shared by all runs of the part.

        Returns:
            Configuration with 50 points of the loss curve and 20 checkpoints.
        """
        config = get_recipe(self.recipe).config()
        return replace(
            config,
            steps=self.steps,
            log_every=max(1, self.steps // LOG_LINES),
            checkpoint_every=max(1, self.steps // CHECKPOINTS),
            keep_checkpoints=1,
            sample_every=self.steps,
        )

    @cached_property
    def all_arms(self) -> Sequence[Arm]:
        """The arms in order, then their controls.

        Raises:
            ValueError: The arms cannot be compared.
        """
        if not (self.wide or self.rates):
            # Only controls need the model, and with it the data, which may not be available.
            return [parse_arm(text, self.base()) for text in self.arms]
        config = CompareConfig(arms=self.arms, seeds=self.seeds, wide=self.wide, rates=self.rates)
        return plan_comparison(config, self.base()).arms

    def jobs(self) -> list[Job]:
        """Return all runs, seed by seed, so that finished ones can be compared at any time.

        Returns:
            One job per seed and arm.
        """
        base, arms = self.base(), self.all_arms
        return [
            Job(
                name=f"{arm.folder}-{seed}",
                config=arm.config(base, seed),
                scoring=SampleScoreConfig(samples=SAMPLES),
                test_sizes=self.test_sizes,
            )
            for seed in self.seeds
            for arm in arms
        ]


SCENES_STEPS, FASHION_STEPS = 2300, 2350

PARTS = (
    Part(
        key="A",
        title="Class-conditional generation",
        recipe="scenes-dit",
        arms=("axial", "harope", "harope-v1"),
        seeds=(0, 1, 2, 3, 4),
        steps=SCENES_STEPS,
        turn=0,
    ),
    Part(
        key="B",
        title="Behind QK-norm",
        recipe="scenes-dit",
        arms=(
            "axial:model.qk_norm=true",
            "harope:model.qk_norm=true",
            "harope-v1:model.qk_norm=true",
        ),
        seeds=(0, 1, 2, 3, 4),
        steps=SCENES_STEPS,
        turn=0,
    ),
    Part(
        key="A1",
        title="HARoPE and the controls of its baseline",
        recipe="scenes-dit",
        arms=("axial", "harope"),
        seeds=(0, 1, 2, 3, 4),
        steps=SCENES_STEPS,
        turn=1,
        wide=True,
        rates=(0.5, 2.0, 4.0),
    ),
    Part(
        key="A2",
        title="Other encodings",
        recipe="scenes-dit",
        arms=(
            "axial",
            "ape",
            "rope",
            "video",
            "rethinking",
            "mixed",
            "axial-learned",
            "harope:frequencies=mixed,theta=10",
        ),
        seeds=(0, 1, 2),
        steps=SCENES_STEPS,
        turn=2,
    ),
    Part(
        key="C",
        title="Ablation of the basis",
        recipe="scenes-dit",
        arms=(
            "axial",
            "harope",
            "harope:per_head=false",
            "harope:basis=free",
            "harope:basis=free,per_head=false",
            "harope:basis=orthogonal",
            "rethinking",
        ),
        seeds=(0, 1, 2),
        steps=SCENES_STEPS,
        turn=3,
    ),
    Part(
        key="D",
        title="Image understanding",
        recipe="fashion-vit",
        arms=("axial", "ape-learned", "mixed", "rethinking", "harope", "harope-v1"),
        seeds=(0, 1, 2),
        steps=FASHION_STEPS,
        primary="top1",
        turn=4,
        test_sizes=(20, 24, 28, 36, 44, 56),
    ),
    Part(
        key="E",
        title="Muon for the matrices of the blocks",
        recipe="scenes-dit",
        arms=("axial:optimizer.name=muon", "harope:optimizer.name=muon"),
        seeds=(0, 1, 2),
        steps=SCENES_STEPS,
        turn=5,
    ),
)
"""In order of priority."""

GPU_PARTS = (
    Part(
        key="F",
        title="Text to image",
        recipe="scenes-mmdit",
        arms=("axial", "ape", "mixed", "rethinking", "harope", "harope-v1"),
        seeds=(0, 1, 2),
        steps=2000,
        turn=6,
    ),
)
"""Parts that are trained on a GPU only, by benchmarks/gpu/study.py."""


def select_parts(
    keys: str | None,
    parts: tuple[Part, ...],
    *,
    steps: int | None = None,
    seeds: int | None = None,
) -> tuple[Part, ...]:
    """Select parts by their letters, and make their runs shorter or their seeds more.

    Args:
        keys: Letters separated by commas; None for all parts.
        parts: Parts to select from.
        steps: Steps of every run; None for those of the plan.
        seeds: Number of seeds of every arm; None for those of the plan.

    Returns:
        The parts in the order of `keys`.

    Raises:
        ValueError: A part is unknown.
    """
    known = {part.key: part for part in parts}
    names = keys.split(",") if keys else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"part {unknown[0]!r} is unknown; available: {', '.join(known)}")
    changes: dict[str, Any] = {}
    if steps is not None:
        changes["steps"] = steps
    if seeds is not None:
        changes["seeds"] = tuple(range(seeds))
    return tuple(replace(known[name], **changes) for name in names)


def result_path(part: Part, job: Job, results: Path) -> Path:
    """Return the path of a run's result.

    Args:
        part: Part of the study.
        job: Run of the part.
        results: Folder of results.

    Returns:
        JSON file, which may not exist.
    """
    return results / part.recipe / f"{job.name}.json"


def all_jobs(parts: tuple[Part, ...]) -> Iterator[tuple[Part, Job]]:
    """Yield every run once, in order of turn and seed; parts may share runs.

    Args:
        parts: Parts of the study.

    Yields:
        Part and job.

    Raises:
        ValueError: Two parts have different runs of the same name.
    """
    queue = [(part, job) for part in parts for job in part.jobs()]
    seen: dict[tuple[str, str], Job] = {}
    for part, job in sorted(queue, key=lambda item: (item[0].turn, item[1].config.seed)):
        key = (part.recipe, job.name)
        if key not in seen:
            yield part, job
        elif seen[key] != job:
            raise ValueError(f"two parts have different runs of the name {job.name!r}")
        seen[key] = job


def is_finished(part: Part, job: Job, results: Path) -> bool:
    """Return whether there is a result, and it belongs to this configuration of the run.

    Args:
        part: Part of the study.
        job: Run of the part.
        results: Folder of results.

    Returns:
        True if the stored result has this job's description.
    """
    path = result_path(part, job, results)
    return path.exists() and read_result(path, job) is not None


def show_plan(parts: tuple[Part, ...], results: Path) -> None:
    """Print every run, whether it is finished, and how many are.

    Args:
        parts: Parts of the study.
        results: Folder of results.
    """
    runs = [(part, job, is_finished(part, job, results)) for part, job in all_jobs(parts)]
    for part, job, finished in runs:
        print(f"{part.key:3}{part.recipe}/{job.name}: {'finished' if finished else 'missing'}")
    print(f"{sum(finished for *_, finished in runs)} of {len(runs)} runs are finished")


def run(parts: tuple[Part, ...], work: Path, results: Path, workers: int | None, nice: int) -> None:
    """Train the runs that have no result yet.

    Args:
        parts: Parts of the study.
        work: Folder of runs and checkpoints.
        results: Folder of results.
        workers: Number of runs in parallel; None for one per GPU or CPU core.
        nice: Niceness to add to the runs, 0 to 19.

    Raises:
        ValueError: Another process uses the folder of a recipe, or runs failed.
    """
    queue = [(part, job) for part, job in all_jobs(parts) if not is_finished(part, job, results)]
    # Each recipe has a folder of its own, so consecutive runs of one recipe form a batch.
    for recipe, batch in groupby(queue, key=lambda item: item[0].recipe):
        jobs = [job for _, job in batch]
        print(f"{recipe}: {len(jobs)} runs", flush=True)
        with lock_folder(work / recipe):
            run_jobs(
                jobs,
                work / recipe,
                worker_environments(workers),
                lambda line: print(line, flush=True),
                nice=nice,
            )


def collect(parts: tuple[Part, ...], work: Path, results: Path, commit: str) -> None:
    """Copy the results of finished runs, and record the commit of the code that produced them.

    Args:
        parts: Parts of the study.
        work: Folder of runs and checkpoints.
        results: Folder of results.
        commit: Commit of the code.
    """
    for part, job in all_jobs(parts):
        found = job.result(work / part.recipe)
        path = result_path(part, job, results)
        if found is None or is_finished(part, job, results):
            continue
        found["made_on"] |= {"commit": commit}
        write_json_atomic(path, found, indent=None)
        print(path)


def main(arguments: list[str]) -> int:
    """Execute a command.

    Args:
        arguments: Command-line arguments.

    Returns:
        Exit code: 0, or 2 after an error, which is printed to stderr as one line.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=("plan", "run", "collect"))
    parser.add_argument("--work", type=Path, help="folder of runs and checkpoints")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of results (default: %(default)s)"
    )
    parser.add_argument("--parts", help="letters such as A,B (default: all, in order of priority)")
    parser.add_argument(
        "--workers", type=int, help="runs in parallel (default: one per GPU or CPU core)"
    )
    parser.add_argument(
        "--nice", type=int, default=19, help="niceness of the runs (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="steps of each run, to test with short runs")
    parser.add_argument(
        "--commit", default="unknown", help="commit of the code, recorded by collect"
    )
    options = parser.parse_args(arguments)
    try:
        parts = select_parts(options.parts, PARTS, steps=options.steps)
        if options.command in ("run", "collect") and options.work is None:
            raise ValueError("--work is missing; pass the folder of runs and checkpoints")
        if options.command == "plan":
            show_plan(parts, options.results)
        elif options.command == "run":
            run(parts, options.work, options.results, options.workers, options.nice)
        else:
            collect(parts, options.work, options.results, options.commit)
    except ValueError as error:
        print(f"study: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
