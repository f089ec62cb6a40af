"""One run of a comparison, in a process of its own.

    python -m harope.lab.experiments.compare.job JOB.json NICE PID

The job's file says what to train and where. The process ends when the process PID, which started
it, has ended.
What was measured lies beside the checkpoints, in `measures.json`:

    job           what was trained
    measures      numbers by name, see harope.lab.experiments.compare.run_metrics
    heads         what the heads learned, see harope.lab.experiments.compare.heads
    ablations     losses of the trained model with other matrices in place of A
    resolutions   top-1 accuracy by scaling method and size, where sizes were asked for
    curve         images seen, and the training loss at that point
    made_on       device, versions, and seconds of training
"""

import json
import os
import platform
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.training.config import RunConfig
from harope.lab.training.serialization import from_json, to_json

MEASURES_FILE = "measures.json"
POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process does."""

    name: str
    """Folder of the run in the comparison's."""
    config: RunConfig
    """What it trains."""
    scoring: SampleScoreConfig
    """What is drawn of it and scored."""
    test_sizes: tuple[int, ...] = ()
    """Sizes in pixels at which a classifier is tested besides."""

    def run_folder(self, out: Path) -> Path:
        """Where it trains."""
        return out / "runs" / self.name

    def samples_folder(self, out: Path) -> Path:
        """Where it draws; other pictures, another folder."""
        return out / "samples" / f"{self.name}-{self.scoring.samples}"

    def log(self, out: Path) -> Path:
        """What the process printed."""
        return out / "logs" / f"{self.name}.txt"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        sizes = {"test_sizes": list(self.test_sizes)} if self.test_sizes else {}
        return {
            "name": self.name,
            "config": to_json(self.config),
            "drawn": self.scoring.to_dict(),
            **sizes,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Job":
        """The inverse of `to_dict`. Raises ValueError where the configuration is none."""
        return cls(
            name=values["name"],
            config=from_json(values["config"]),
            scoring=SampleScoreConfig(**values["drawn"]),
            test_sizes=tuple(values.get("test_sizes", ())),
        )

    def write(self, out: Path) -> Path:
        """Its file, for the process that carries it out."""
        path = out / "jobs" / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return path

    def result(self, out: Path) -> dict[str, Any] | None:
        """All that was found, as described above; None where this very job is not finished."""
        path = self.run_folder(out) / MEASURES_FILE
        return read_result(path, self) if path.exists() else None

    def metrics(self, out: Path) -> dict[str, float] | None:
        """The numbers by name, None where this very job is not finished."""
        found = self.result(out)
        return None if found is None else found["measures"]


def read_result(path: Path, job: Job) -> dict[str, Any] | None:
    """What a result file holds; None where it is the result of another job."""
    found = json.loads(path.read_text())
    # Through JSON and back: tuples become lists.
    return found if found["job"] == json.loads(json.dumps(job.to_dict())) else None


def run_job(job: Job, out: Path) -> None:
    """Train, going on where it stopped, measure, and write what was found."""
    from harope.lab.experiments.compare.run_metrics import measure_heads, measure_run
    from harope.lab.training.loop import train

    run = job.run_folder(out)
    train(job.config, run, quiet=True)
    kept = out / "reference"
    found = measure_run(run, job.config, job.scoring, job.samples_folder(out), kept)
    beside = run / f".{MEASURES_FILE}.partial"
    written = {
        "job": job.to_dict(),
        "measures": found,
        **measure_heads(run, job.config),
        **_resolutions(run, job.test_sizes),
        "curve": _curve(run),
        "made_on": _made_on(run),
    }
    beside.write_text(json.dumps(written) + "\n")
    os.replace(beside, run / MEASURES_FILE)


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
    """Carry out a job's file; 0, or 2 with one line on stderr for what is wrong with it."""
    job = Job.from_dict(json.loads(path.read_text()))
    try:
        run_job(job, path.parents[1])
    except (ValueError, OSError, ImportError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def exit_with_parent(parent: int) -> None:
    """Have this process end, from now on, when its parent, the process of this number, has ended.

    Otherwise a comparison that was killed would leave its runs behind, and the same command would
    start others beside them in the same folders. Checkpoints are renamed into place, so a run can
    end anywhere.
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
