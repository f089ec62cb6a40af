"""Entry point of `harope demo`."""

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
from harope.lab.sampling.runs import load_class_generator
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override

RECIPE, ENCODINGS = "scenes-dit", ("harope", "axial")
RELEASED = {"harope-v1": "scenes-dit-harope", "axial": "scenes-dit-axial"}
"""Folder in `harope/lab/checkpoints` of each released model, by its encoding."""
SHOWN = 60
"""Number of samples of each model on the page."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How long the demo trains, and how many samples it scores."""

    steps: int = 200
    """Training steps of each encoding."""
    rounds: int = 4
    """Samples of each of the 30 pairs of kind and colour as a single object; as many again show
    several objects."""
    num_steps: int = 12
    """Sampling steps."""
    image_size: int = 32
    """Image side in pixels."""

    def __post_init__(self) -> None:
        if min(self.steps, self.rounds, self.num_steps) < 1:
            raise ValueError(
                f"steps {self.steps}, rounds {self.rounds} and num_steps {self.num_steps} must be "
                f"at least 1"
            )


def run_demo(config: DemoConfig, out: Path) -> Path:
    """Train, sample and score the models, and write the page.

    Existing runs and samples are completed instead of being started again.

    Args:
        config: Options.
        out: Folder to write to.

    Returns:
        Path of the page.
    """
    started = time.perf_counter()
    trained = [_train_model(config, encoding, out) for encoding in ENCODINGS]
    # The released models come first on the page: theirs are the samples worth looking at.
    released = [_load_released_model(config, encoding, out) for encoding in RELEASED]
    labels = scene_labels(config.rounds)
    ceiling: Scores = rendered_scores(list(labels), config.image_size)
    return write_demo_page(
        [*released, *trained],
        ceiling,
        out,
        seconds=time.perf_counter() - started,
        memory_gib=peak_memory_gib(),
    )


def peak_memory_gib() -> float | None:
    """Return the peak resident memory of this process.

    Returns:
        Memory in GiB, or None on Windows, whose Python has no module `resource`.
    """
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The unit is bytes on macOS and kibibytes on Linux.
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def _train_model(config: DemoConfig, encoding: str, out: Path) -> DemoModel:
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
    return _score_model(config, f"{encoding}, this demo", run, out)


def _load_released_model(config: DemoConfig, encoding: str, out: Path) -> DemoModel:
    with as_file(files("harope.lab").joinpath("checkpoints", RELEASED[encoding])) as folder:
        return _score_model(config, f"{encoding}, released", folder, out)


def _score_model(config: DemoConfig, name: str, run: Path, out: Path) -> DemoModel:
    print(f"sampling and scoring: {name}", flush=True)
    generator = load_class_generator(run)
    generator = generator.with_sampling(num_steps=config.num_steps)
    labels = scene_labels(config.rounds)
    plan = FolderPlan(
        shape=(3, config.image_size, config.image_size), labels=labels, count=len(labels)
    )
    started = time.perf_counter()
    folder = sample_folder(
        generator,
        plan,
        out / "samples" / name.replace(", ", "-").replace(" ", "-"),
        overwrite=True,
    )
    _, images = read_folder(folder)
    grid = out / f"{folder.name}.png"
    write_image_grid(images[:SHOWN], grid, columns=10)
    return DemoModel(
        name=name,
        encoding=generator.config.encoding,
        parameters=generator.parameters,
        metrics=tuple(read_metrics(run)),
        scores=folder_scores(folder)["samples"],
        grid=grid,
        sample_seconds=time.perf_counter() - started,
    )
