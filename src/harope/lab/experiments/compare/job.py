"""One run of a comparison, in a process of its own.

    python -m harope.lab.experiments.compare.job JOB.json NICE PID

The job file JOB.json lies in the folder `jobs` of the comparison and describes the run. NICE is
added to the niceness of the process, and the process exits when its parent, the process PID, does.
The results are written to `measures.json` in the run folder:

    job           the job's description, by which results of another job are recognised
    measures      metrics by name, see harope.lab.experiments.compare.run_metrics
    heads         statistics of the heads, see harope.lab.experiments.compare.heads
    ablations     losses of the trained model with other matrices in place of A
    resolutions   top-1 accuracy by scaling method and image size, if the job has test sizes
    curve         training loss by number of images seen
    made_on       device, versions, and training time in seconds
"""

import json
import math
import os
import platform
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from harope._utils.atomic import write_json_atomic
from harope._utils.interruption import InterruptedBySignalError
from harope._utils.json_files import read_json, validate
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.training.serialization import from_json, to_json
from harope.lab.training.task import RunConfig

MEASURES_FILE = "measures.json"
POLL_SECONDS = 0.5
"""Interval at which a run checks that its parent is alive."""


@dataclass(frozen=True)
class _Metrics:
    """What a comparison reads of a result."""

    measures: dict[str, FiniteFloat]


@dataclass(frozen=True)
class _Description:
    """A job in JSON, with the keys of stored results."""

    name: str
    config: dict[str, Any]
    drawn: SampleScoreConfig
    test_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Description of a run: training, sampling and scoring.

    The methods take the folder `out` of the comparison, which is no part of the description.
    """

    name: str
    """Name of the run, unique in the comparison."""
    config: RunConfig
    """Configuration of the training."""
    scoring: SampleScoreConfig
    """How the trained model is sampled and scored."""
    test_sizes: tuple[int, ...] = ()
    """Further image sizes, in pixels, at which a classifier is tested."""

    def run_folder(self, out: Path) -> Path:
        """Return the run folder of the training.

        Args:
            out: Folder of the comparison.

        Returns:
            Folder of the training's checkpoints and of `measures.json`.
        """
        return out / "runs" / self.name

    def samples_folder(self, out: Path) -> Path:
        """Return the folder of the samples, which depends on their number.

        Args:
            out: Folder of the comparison.

        Returns:
            Folder of images.
        """
        return out / "samples" / f"{self.name}-{self.scoring.samples}"

    def log(self, out: Path) -> Path:
        """Return the file with the output of the process.

        Args:
            out: Folder of the comparison.

        Returns:
            Text file.
        """
        return out / "logs" / f"{self.name}.txt"

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain values for JSON; see `from_dict`.

        Returns:
            Nested lists and dictionaries of plain values.
        """
        # Stored results are matched with these keys and values, so the keys must not change.
        sizes = {"test_sizes": list(self.test_sizes)} if self.test_sizes else {}
        return {
            "name": self.name,
            "config": to_json(self.config),
            "drawn": self.scoring.to_dict(),
            **sizes,
        }

    @classmethod
    def from_dict(cls, values: Any, source: object = "job") -> "Job":
        """Create a job from the values of `to_dict`.

        Args:
            values: Description of the job.
            source: Where it comes from, the first words of an error.

        Returns:
            The job.

        Raises:
            ValueError: A field is missing or has another type, or the configuration is invalid.
        """
        described = validate(values, _Description, source)
        return cls(
            name=described.name,
            config=from_json(described.config),
            scoring=described.drawn,
            test_sizes=described.test_sizes,
        )

    def result_file(self, out: Path) -> Path:
        """Return the file of the results.

        Args:
            out: Folder of the comparison.

        Returns:
            `measures.json` in the run folder, which exists if the job is finished.
        """
        return self.run_folder(out) / MEASURES_FILE

    def write(self, out: Path) -> Path:
        """Write the job file that `main` reads.

        Args:
            out: Folder of the comparison.

        Returns:
            Path of the file.
        """
        path = out / "jobs" / f"{self.name}.json"
        write_json_atomic(path, self.to_dict())
        return path

    def result(self, out: Path) -> dict[str, Any] | None:
        """Read `measures.json` if this job is finished.

        Args:
            out: Folder of the comparison.

        Returns:
            Content of the file, or None if this job is not finished.
        """
        path = self.result_file(out)
        return read_result(path, self) if path.exists() else None

    def metrics(self, out: Path) -> dict[str, float] | None:
        """Read the metrics of this job if it is finished.

        Args:
            out: Folder of the comparison.

        Returns:
            Metrics by name, or None if this job is not finished.
        """
        result = self.result(out)
        return None if result is None else result["measures"]


def read_result(path: Path, job: Job) -> dict[str, Any] | None:
    """Read a result file.

    Args:
        path: File in the format of `measures.json`.
        job: Job whose result is expected.

    Returns:
        Content of the file, or None if it is the result of a different job.

    Raises:
        ValueError: The file is damaged, or a metric is missing or not a finite number.
    """
    try:
        result = read_json(path, dict[str, Any])
        try:
            # Older versions gave some fields other names.
            stored = Job.from_dict(result.get("job")).to_dict()
        except ValueError:
            return None
        if json.dumps(stored) != json.dumps(job.to_dict()):
            return None
        return result | {"measures": validate(result, _Metrics, path).measures}
    except ValueError as error:
        raise ValueError(
            f"{error}; delete the file and repeat the command to measure the run again"
        ) from None


def run_job(job: Job, out: Path) -> None:
    """Train, sample and score, and write `measures.json`.

    A training that was interrupted resumes from its last checkpoint.

    Args:
        job: Run to carry out.
        out: Folder of the comparison.

    Raises:
        ValueError: The run folder holds another run, training failed, or a metric is not finite.
        InterruptedBySignalError: A signal stopped the training after a checkpoint.
    """
    from harope.lab.experiments.compare.run_metrics import measure_heads, measure_run
    from harope.lab.training.loop import train

    run = job.run_folder(out)
    train(job.config, run, quiet=True)
    metrics = measure_run(
        run, job.config, job.scoring, job.samples_folder(out), reference_cache=out / "reference"
    )
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"the metric {name} of {run} is {value}: the run cannot be compared")
    written = {
        "job": job.to_dict(),
        "measures": metrics,
        **measure_heads(run, job.config),
        **_resolutions(run, job.test_sizes),
        "curve": _curve(run),
        "made_on": _made_on(run),
    }
    write_json_atomic(job.result_file(out), written, indent=None)


def _resolutions(run: Path, sizes: tuple[int, ...]) -> dict[str, Any]:
    if not sizes:
        return {}
    from harope.lab.evals.resolutions import resolution_scores

    scores = resolution_scores(run, sizes)
    rates = {
        method: {size: score.rate for size, score in by_size.items()}
        for method, by_size in scores.items()
    }
    return {"resolutions": rates}


def _curve(run: Path) -> dict[str, list[int] | list[float]]:
    from harope.lab.training.logging import read_metrics

    lines = read_metrics(run)
    return {
        "images": [line["images"] for line in lines],
        "loss": [float(f"{line['loss']:.6g}") for line in lines],
    }


def _made_on(run: Path) -> dict[str, Any]:
    from importlib.metadata import version

    import torch

    from harope.lab.training.logging import read_metrics

    gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if gpu else f"CPU ({platform.machine()})",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "harope": version("harope"),
        "training_seconds": round(read_metrics(run)[-1]["seconds"], 1),
    }


def main(path: Path) -> int:
    """Carry out a job file.

    Args:
        path: Job file, in the folder `jobs` of a comparison.

    Returns:
        Exit code: 0; 2 after an error, which is printed to stderr as one line; or 128 + N after an
        interruption by signal N.
    """
    try:
        job = Job.from_dict(read_json(path, dict[str, Any]), path)
        if job.name != path.stem:
            raise ValueError(f"{path} describes the job {job.name!r}; its name must be {path.stem}")
        run_job(job, path.parents[1])
    except InterruptedBySignalError as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ValueError, OSError, ImportError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def exit_with_parent(parent: int) -> None:
    """Exit this process as soon as its parent has exited.

    Without this, a comparison that was killed would leave its runs behind, and repeating the
    command would start others in the same folders. Checkpoints are written atomically, so a run may
    exit at any time.

    Args:
        parent: Process id of the parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    exit_with_parent(int(sys.argv[3]))
    if hasattr(os, "nice"):
        os.nice(int(sys.argv[2]))
    sys.exit(main(Path(sys.argv[1])))
