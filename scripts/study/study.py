"""The study of docs/results/study.md: which runs it is made of, and what carries them out.

    python benchmarks/study.py plan                      all runs, and which of them are finished
    python benchmarks/study.py run --work DIR            train what is missing, in order of priority
    python benchmarks/study.py collect --work DIR        copy results of finished runs into the docs

Results are kept as docs/results/study/RECIPE/RUN.json, a small file per run; runs that have one are
not trained again. Checkpoints stay in the working folder.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harope.lab.experiments.compare.arms import Arm, parse_arm
from harope.lab.experiments.compare.job import Job, read_result
from harope.lab.experiments.compare.plan import CompareConfig, plan_comparison
from harope.lab.experiments.compare.pool import run_jobs, worker_environments
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.recipes import get_recipe
from harope.lab.training.config import RunConfig

RESULTS = Path("docs/results/study")
LOG_LINES, CHECKPOINTS = 50, 20
SAMPLES = 600
"""Images drawn of every run of a generative recipe."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Runs that answer one question."""

    key: str
    """Letter in docs/results/study.md."""
    recipe: str
    """Recipe that all its runs start from."""
    arms: tuple[str, ...]
    """See harope.lab.experiments.compare.arms."""
    seeds: tuple[int, ...]
    """Each arm is trained once with each."""
    steps: int
    """Optimizer steps."""
    wide: bool = False
    """Whether the baseline is also trained with as many parameters, in wider MLPs."""
    rates: tuple[float, ...] = ()
    """Learning rates of the baseline's queries and keys to try, as factors."""
    test_sizes: tuple[int, ...] = ()
    """Sizes in pixels at which classifiers are tested besides."""

    def base(self) -> RunConfig:
        """What all its runs have in common."""
        config = get_recipe(self.recipe).config()
        return replace(
            config,
            steps=self.steps,
            log_every=self.steps // LOG_LINES,
            checkpoint_every=self.steps // CHECKPOINTS,
            keep_checkpoints=1,
            sample_every=self.steps,
        )

    def all_arms(self) -> Sequence[Arm]:
        """Its arms and controls. Raises ValueError where they do not go together."""
        if not (self.wide or self.rates):
            # Without controls no model is needed, and so no data that may not be at hand.
            return [parse_arm(text, self.base()) for text in self.arms]
        config = CompareConfig(arms=self.arms, seeds=self.seeds, wide=self.wide, rates=self.rates)
        return plan_comparison(config, self.base()).arms

    def jobs(self) -> list[Job]:
        """All its runs, seed by seed, so that whatever is finished can be compared."""
        base, arms = self.base(), self.all_arms()
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
        recipe="scenes-dit",
        arms=("axial", "harope", "harope-v1"),
        seeds=(0, 1, 2, 3, 4),
        steps=SCENES_STEPS,
        wide=True,
        rates=(0.5, 2.0, 4.0),
    ),
    Part(
        key="B",
        recipe="scenes-dit",
        arms=(
            "axial:model.qk_norm=true",
            "harope:model.qk_norm=true",
            "harope-v1:model.qk_norm=true",
        ),
        seeds=(0, 1, 2),
        steps=SCENES_STEPS,
    ),
    Part(
        key="A2",
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
    ),
    Part(
        key="C",
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
    ),
    Part(
        key="D",
        recipe="fashion-vit",
        arms=("axial", "ape-learned", "mixed", "rethinking", "harope", "harope-v1"),
        seeds=(0, 1, 2),
        steps=FASHION_STEPS,
        test_sizes=(20, 24, 28, 36, 44, 56),
    ),
    Part(
        key="E",
        recipe="scenes-dit",
        arms=("axial:optimizer.name=muon", "harope:optimizer.name=muon"),
        seeds=(0, 1, 2),
        steps=SCENES_STEPS,
    ),
)
"""In order of priority."""


def result_path(part: Part, job: Job, results: Path) -> Path:
    """Where the result of a run is kept."""
    return results / part.recipe / f"{job.name}.json"


def all_jobs(parts: tuple[Part, ...]) -> Iterator[tuple[Part, Job]]:
    """Every run once, in order of priority: parts share runs."""
    seen: dict[tuple[str, str], Job] = {}
    for part in parts:
        for job in part.jobs():
            key = (part.recipe, job.name)
            if key not in seen:
                yield part, job
            elif seen[key] != job:
                raise ValueError(f"two parts have different runs of the name {job.name!r}")
            seen[key] = job


def is_finished(part: Part, job: Job, results: Path) -> bool:
    """Whether the result of this very run is kept."""
    path = result_path(part, job, results)
    return path.exists() and read_result(path, job) is not None


def show_plan(parts: tuple[Part, ...], results: Path) -> None:
    """Print every run and whether it is finished, and the count."""
    runs = [(part, job, is_finished(part, job, results)) for part, job in all_jobs(parts)]
    for part, job, finished in runs:
        print(f"{part.key:3}{part.recipe}/{job.name}: {'finished' if finished else 'missing'}")
    print(f"{sum(finished for *_, finished in runs)} of {len(runs)} runs are finished")


def run(parts: tuple[Part, ...], work: Path, results: Path, workers: int | None, nice: int) -> None:
    """Train what has no result yet. Raises ValueError where runs failed."""
    missing: dict[str, list[Job]] = {}
    queue = [(p, job) for p, job in all_jobs(parts) if not is_finished(p, job, results)]
    # Runs of several recipes lie in folders of their own; neighbours in the queue go together.
    for part, job in queue:
        if missing and next(reversed(missing)) != part.recipe and part.recipe in missing:
            missing = _carry_out(missing, work, workers, nice)
        missing.setdefault(part.recipe, []).append(job)
    _carry_out(missing, work, workers, nice)


def _carry_out(
    jobs: dict[str, list[Job]], work: Path, workers: int | None, nice: int
) -> dict[str, list[Job]]:
    for recipe, own in jobs.items():
        print(f"{recipe}: {len(own)} runs", flush=True)
        run_jobs(
            own,
            work / recipe,
            worker_environments(workers),
            lambda line: print(line, flush=True),
            nice=nice,
        )
    return {}


def collect(parts: tuple[Part, ...], work: Path, results: Path, commit: str) -> None:
    """Copy the results of finished runs; `commit` is that of the code which made them."""
    for part, job in all_jobs(parts):
        found = job.result(work / part.recipe)
        path = result_path(part, job, results)
        if found is None or is_finished(part, job, results):
            continue
        found["made_on"] |= {"commit": commit}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.partial")
        beside.write_text(json.dumps(found) + "\n")
        beside.replace(path)
        print(path)


def main(arguments: list[str]) -> int:
    """Carry out one of the commands above; 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=("plan", "run", "collect"))
    parser.add_argument("--work", type=Path, help="folder of runs and checkpoints")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help=f"folder of results ({RESULTS})"
    )
    parser.add_argument("--parts", help="letters, as A,B (default: all, in order of priority)")
    parser.add_argument("--workers", type=int, help="runs side by side (one per GPU or core)")
    parser.add_argument("--nice", type=int, default=19, help="niceness of the runs (19)")
    parser.add_argument("--steps", type=int, help="fewer steps, to see that all runs work")
    parser.add_argument("--commit", default="unknown", help="commit of the code (collect)")
    options = parser.parse_args(arguments)
    try:
        parts = _chosen(options.parts, options.steps)
        if options.command != "plan" and options.work is None:
            raise ValueError("--work is missing: name the folder of runs and checkpoints")
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


def _chosen(keys: str | None, steps: int | None) -> tuple[Part, ...]:
    known = {part.key: part for part in PARTS}
    names = keys.split(",") if keys else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"part {unknown[0]!r} is unknown: use {', '.join(known)}")
    return tuple(
        known[name] if steps is None else replace(known[name], steps=steps) for name in names
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
