"""What `harope demo` does, step by step."""

import resource
import sys
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from harope.lab.evals.scenes import folder_scores, rendered_scores, scene_labels
from harope.lab.experiments.demo.page import DemoModel, write_demo_page
from harope.lab.metrics.intervals import Scores
from harope.lab.recipes import get_recipe
from harope.lab.reporting.images import write_image_grid
from harope.lab.sampling.class_folder import FolderPlan, read_folder, sample_folder
from harope.lab.sampling.runs import load_generator
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override

RECIPE, ENCODINGS = "scenes-dit", ("harope", "axial")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How long the demo trains and how much it samples."""

    steps: int = 200
    """Training steps of each encoding."""
    rounds: int = 4
    """Samples of each of the 30 single objects; as many pictures again hold several."""
    num_steps: int = 12
    """Steps of the sampler."""
    image_size: int = 32
    """Pixels."""

    def __post_init__(self) -> None:
        if min(self.steps, self.rounds, self.num_steps) < 1:
            raise ValueError(
                f"steps {self.steps}, rounds {self.rounds} and num_steps {self.num_steps} must be "
                f"at least 1"
            )


def run_demo(config: DemoConfig, out: Path) -> Path:
    """Train, sample, score and report into `out`; returns the page.

    A run or sample folder that is there already is completed, not made again.
    """
    started = time.perf_counter()
    models = [_trained(config, encoding, out) for encoding in ENCODINGS]
    models += [_released(config, encoding, out) for encoding in ENCODINGS]
    labels = scene_labels(config.rounds)
    ceiling: Scores = rendered_scores(list(labels), config.image_size)
    return write_demo_page(
        models,
        ceiling,
        out,
        seconds=time.perf_counter() - started,
        memory_gib=peak_memory_gib(),
    )


def peak_memory_gib() -> float:
    """Largest resident size of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def _trained(config: DemoConfig, encoding: str, out: Path) -> DemoModel:
    print(f"training {RECIPE} with {encoding} for {config.steps} steps", flush=True)
    changes = {
        "encoding": encoding,
        "steps": config.steps,
        "log_every": min(10, config.steps),
        "sample_every": 10 * config.steps,
        "num_samples": 1,
    }
    run = out / "runs" / encoding
    train(override(get_recipe(RECIPE).config(), changes), run)
    return _scored(config, f"{encoding}, this demo", run, run, out)


def _released(config: DemoConfig, encoding: str, out: Path) -> DemoModel:
    with as_file(files("harope.lab").joinpath("checkpoints", f"{RECIPE}-{encoding}")) as folder:
        return _scored(config, f"{encoding}, released", folder, folder, out)


def _scored(config: DemoConfig, name: str, checkpoint: Path, metrics: Path, out: Path) -> DemoModel:
    print(f"sampling and scoring: {name}", flush=True)
    generator = load_generator(checkpoint)
    generator = generator.with_sampling(num_steps=config.num_steps)
    labels = scene_labels(config.rounds)
    plan = FolderPlan(
        shape=(3, config.image_size, config.image_size), labels=labels, count=len(labels)
    )
    started = time.perf_counter()
    folder = sample_folder(
        generator, plan, out / "samples" / name.replace(", ", "-").replace(" ", "-")
    )
    _, pictures = read_folder(folder)
    grid = out / f"{folder.name}.png"
    write_image_grid(pictures[:60], grid, columns=10)
    return DemoModel(
        name=name,
        encoding=generator.config.encoding,
        parameters=generator.parameters,
        metrics=tuple(read_metrics(metrics)),
        scores=folder_scores(folder)["samples"],
        grid=grid,
        sample_seconds=time.perf_counter() - started,
    )
