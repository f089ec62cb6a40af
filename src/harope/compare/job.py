"""One run of a comparison, in a process of its own: `python -m harope.compare.job JOB.json`.

The job's file says what to train and where; what was measured lies beside the checkpoints, with the
job that it belongs to.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harope.compare.drawn import DrawnConfig
from harope.training.codec import from_dict, to_dict
from harope.training.config import RunConfig

MEASURES_FILE = "measures.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process does."""

    name: str
    """Folder of the run in the comparison's."""
    config: RunConfig
    """What it trains."""
    drawn: DrawnConfig
    """What is drawn of it and scored."""

    def run_folder(self, out: Path) -> Path:
        """Where it trains."""
        return out / "runs" / self.name

    def samples_folder(self, out: Path) -> Path:
        """Where it draws; other pictures, another folder."""
        return out / "samples" / f"{self.name}-{self.drawn.samples}"

    def log(self, out: Path) -> Path:
        """What the process printed."""
        return out / "logs" / f"{self.name}.txt"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "config": to_dict(self.config), **self.drawn.to_dict()}

    def write(self, out: Path) -> Path:
        """Its file, for the process that carries it out."""
        path = out / "jobs" / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return path

    def measures(self, out: Path) -> dict[str, float] | None:
        """What was measured, None where this very job is not finished."""
        path = self.run_folder(out) / MEASURES_FILE
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        # Through JSON and back: tuples become lists.
        same = found["job"] == json.loads(json.dumps(self.to_dict()))
        return found["measures"] if same else None


def run_job(job: Job, out: Path) -> None:
    """Train, going on where it stopped, measure, and write what was found."""
    from harope.compare.measures import measure_heads, measure_run
    from harope.training.loop import train

    run = job.run_folder(out)
    train(job.config, run, quiet=True)
    kept = out / "reference"
    found = measure_run(run, job.config, job.drawn, job.samples_folder(out), kept)
    beside = run / f".{MEASURES_FILE}.partial"
    written = {"job": job.to_dict(), "measures": found, **measure_heads(run, job.config)}
    beside.write_text(json.dumps(written) + "\n")
    os.replace(beside, run / MEASURES_FILE)


def main(path: Path) -> int:
    """Carry out a job's file; 0, or 2 with one line on stderr for what is wrong with it."""
    values = json.loads(path.read_text())
    name, config = values.pop("name"), from_dict(values.pop("config"))
    job = Job(name=name, config=config, drawn=DrawnConfig(**values))
    try:
        run_job(job, path.parents[1])
    except (ValueError, OSError, ImportError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
