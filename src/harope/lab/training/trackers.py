"""Experiment trackers of a run: TensorBoard, Weights & Biases, Trackio and MLflow, by accelerate.

A tracker receives what metrics.jsonl receives, the configuration and the sample grids. Nothing is
logged twice: TensorBoard drops the steps that a resumed run repeats, and for the others the run
folder stores under which name they know the run, and up to which step they have it.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from uuid import uuid4

from harope._utils.atomic import write_json_atomic
from harope._utils.json_files import read_json
from harope.lab.data.image_io import read_rgb

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TrackerName: TypeAlias = Literal["tensorboard", "wandb", "trackio", "mlflow"]

PROJECT = "harope"
"""Project of W&B and Trackio, and experiment of MLflow, unless WANDB_PROJECT or
MLFLOW_EXPERIMENT_NAME names another."""
STATE_FILE = "trackers.json"
Scalars: TypeAlias = Mapping[str, int | float]


@dataclass(frozen=True, kw_only=True)
class TrackerState:
    """What a run folder remembers of a tracker that keeps its records elsewhere."""

    run: str
    """Id or name under which the tracker knows the run."""
    scalars: int = 0
    """Last step of which it has the losses."""
    report: int = 0
    """Last step of which it has the report."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a tracker shows of a report of the model's progress."""

    scalars: Scalars
    """Metrics by name."""
    images: Mapping[str, Path]
    """PNG files by name."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Texts by name, such as the captions of the images."""


class Tracker(ABC):
    """One tracker of a run.

    Args:
        run: Run folder.
        step: Number of steps done before.
    """

    def __init__(self, run: Path, step: int) -> None:
        self.run, self.step = run, step

    @abstractmethod
    def start(self, config: Mapping[str, Any]) -> None:
        """Begin the run, or go on with it.

        Args:
            config: Configuration of the training by path of the field.
        """

    @abstractmethod
    def log(self, scalars: Scalars, step: int) -> None:
        """Log numbers.

        Args:
            scalars: Numbers by name.
            step: Number of steps done.
        """

    @abstractmethod
    def log_report(self, report: Report, step: int) -> None:
        """Log a report.

        Args:
            report: The report.
            step: Number of steps done.
        """

    @abstractmethod
    def finish(self) -> None:
        """Write what is pending and close the tracker."""


class TensorBoard(Tracker):
    """Event files in the run's subfolder `tensorboard`; a resumed run purges what it repeats."""

    def start(self, config: Mapping[str, Any]) -> None:
        from accelerate.tracking import TensorBoardTracker
        from torch.utils.tensorboard.summary import hparams

        self._tracker = TensorBoardTracker("tensorboard", self.run, purge_step=self.step + 1)
        self._tracker.start()
        if self.step == 0:
            # accelerate would write them into a folder of its own, without the losses.
            for summary in hparams({name: _simple(value) for name, value in config.items()}, {}):
                self._tracker.writer.file_writer.add_summary(summary)

    def log(self, scalars: Scalars, step: int) -> None:
        self._tracker.log(dict(scalars), step=step)

    def log_report(self, report: Report, step: int) -> None:
        self.log(report.scalars, step)
        for name, path in report.images.items():
            images = {name: read_rgb(path)[None]}
            self._tracker.log_images(images, step=step, dataformats="NHWC")
        self._tracker.log(dict(report.texts), step=step)

    def finish(self) -> None:
        self._tracker.finish()


class RemoteTracker(Tracker):
    """A tracker that keeps its records outside the run folder, which only remembers the state.

    A run that was killed repeats the steps after its last checkpoint, with the same results. They
    are not logged again, because these trackers cannot replace what they have. The texts of reports
    are not logged.
    """

    name: str
    """Its name in `RunConfig.report_to` and in the state file."""

    def start(self, config: Mapping[str, Any]) -> None:
        stored = read_states(self.run).get(self.name)
        values = {name: _simple(value) for name, value in config.items()}
        self._tracker = self.open(None if stored is None else stored.run, values)
        self._tracker.start()
        self._state = stored or TrackerState(run=self.run_name())
        self._store()
        if stored is None:
            self._tracker.store_init_configuration(values)

    @abstractmethod
    def open(self, known: str | None, config: dict[str, Any]) -> "GeneralTracker":
        """Create accelerate's tracker.

        Args:
            known: Id or name of the run if it was logged before; None for a new run.
            config: Configuration of the training, which is also stored after the start.

        Returns:
            The tracker, not started.
        """

    @abstractmethod
    def run_name(self) -> str:
        """Return the id or name by which a later process goes on with the run."""

    @abstractmethod
    def log_images(self, images: Mapping[str, Path], step: int) -> None:
        """Log images.

        Args:
            images: PNG files by name.
            step: Number of steps done.
        """

    def log(self, scalars: Scalars, step: int) -> None:
        if step > self._state.scalars:
            self._tracker.log(dict(scalars), step=step)
            self._store(scalars=step)

    def log_report(self, report: Report, step: int) -> None:
        if step > self._state.report:
            self._tracker.log(dict(report.scalars), step=step)
            self.log_images(report.images, step)
            self._store(report=step)

    def finish(self) -> None:
        self._tracker.finish()

    def _store(self, **changes: int) -> None:
        self._state = TrackerState(**(asdict(self._state) | changes))
        states = read_states(self.run) | {self.name: self._state}
        values = {name: asdict(state) for name, state in states.items()}
        write_json_atomic(self.run / STATE_FILE, values)


class WandB(RemoteTracker):
    """Weights & Biases, online or, with WANDB_MODE=offline, in the run's subfolder `wandb`."""

    name = "wandb"

    def open(self, known: str | None, config: dict[str, Any]) -> "GeneralTracker":
        from accelerate.tracking import WandBTracker

        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return WandBTracker(
            project, id=known, name=self.run.name, dir=str(self.run), resume="allow"
        )

    def run_name(self) -> str:
        return str(self._tracker.tracker.id)

    def log_images(self, images: Mapping[str, Path], step: int) -> None:
        tracker: Any = self._tracker
        tracker.log_images({name: [read_rgb(path)] for name, path in images.items()}, step=step)


class Trackio(RemoteTracker):
    """Trackio, which keeps its runs in the cache of Hugging Face."""

    name = "trackio"

    def open(self, known: str | None, config: dict[str, Any]) -> "GeneralTracker":
        from accelerate.tracking import TrackioTracker

        # Folders of the same name are different runs, which Trackio would take for one.
        name = known or f"{self.run.name}-{uuid4().hex[:6]}"
        return TrackioTracker(PROJECT, name=name, resume="allow", config=config)

    def run_name(self) -> str:
        return str(self._tracker.tracker.name)

    def log_images(self, images: Mapping[str, Path], step: int) -> None:
        import trackio

        shown = {name: trackio.Image(str(path)) for name, path in images.items()}
        self._tracker.log(shown, step=step)


class MLflow(RemoteTracker):
    """MLflow, at MLFLOW_TRACKING_URI or, by default, in the working directory."""

    name = "mlflow"

    def open(self, known: str | None, config: dict[str, Any]) -> "GeneralTracker":
        from accelerate.tracking import MLflowTracker

        return MLflowTracker(PROJECT, run_id=known, run_name=self.run.name)

    def run_name(self) -> str:
        return str(self._tracker.tracker.info.run_id)

    def log_images(self, images: Mapping[str, Path], step: int) -> None:
        tracker: Any = self._tracker
        for name, path in images.items():
            tracker.log_artifact(str(path), artifact_path=name)


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
    "mlflow": MLflow,
}
"""Trackers by name, which is also the name of the package that they need."""
assert tuple(TRACKERS) == get_args(TrackerName)


def check_trackers(names: Sequence[str]) -> None:
    """Check that the packages of trackers are installed.

    Args:
        names: Names of trackers.

    Raises:
        ValueError: If one is not, naming it.
    """
    for name in names:
        if find_spec(name) is None:
            raise ValueError(
                f"report_to names {name!r}, which is not installed: run `pip install {name}`, or "
                f"leave it out of report_to"
            )


class Trackers:
    """The trackers of a run. One that fails is closed with a warning; the training goes on.

    Args:
        names: Names of trackers.
        run: Run folder.
        step: Number of steps done before.
        config: Configuration of the training by path of the field.
        warn: Shows a warning to the user.
    """

    def __init__(
        self,
        names: Sequence[str],
        run: Path,
        step: int,
        config: Mapping[str, Any],
        warn: Callable[[str], None],
    ) -> None:
        self._config, self._warn = config, warn
        self._trackers = {name: TRACKERS[name](run, step) for name in names}
        self._started = False

    def start(self) -> None:
        """Begin the runs of the trackers, unless they have begun.

        Raises:
            ValueError: If one cannot begin, for instance because it needs a login.
        """
        if self._started:
            return
        self._started = True
        begun: dict[str, Tracker] = {}
        for name, tracker in self._trackers.items():
            try:
                tracker.start(self._config)
                begun[name] = tracker
            # Each library has exceptions of its own.
            except Exception as error:
                self._trackers = begun
                self.close()
                raise ValueError(
                    f"{name}, which report_to names, does not start ({error}): set it up, or leave "
                    f"it out of report_to"
                ) from error

    def log(self, scalars: Scalars, step: int) -> None:
        """Log the numbers of a line of metrics.jsonl.

        Args:
            scalars: Numbers by name.
            step: Number of steps done.
        """
        self._each(lambda tracker: tracker.log(scalars, step))

    def log_report(self, report: Report, step: int) -> None:
        """Log a report.

        Args:
            report: The report.
            step: Number of steps done.
        """
        self._each(lambda tracker: tracker.log_report(report, step))

    def close(self) -> None:
        """Close all trackers that have begun."""
        if self._started:
            self._each(lambda tracker: tracker.finish())

    def _each(self, action: Callable[[Tracker], None]) -> None:
        self.start()
        for name, tracker in list(self._trackers.items()):
            try:
                action(tracker)
            except Exception as error:
                del self._trackers[name]
                self._warn(f"warning: {name} is no longer logged to, because of an error: {error}")


def read_states(run: Path) -> dict[str, TrackerState]:
    """Read what a run folder remembers of its trackers.

    Args:
        run: Run folder.

    Returns:
        States by name of the tracker; none if there is no file.

    Raises:
        ValueError: If the file is damaged.
    """
    path = run / STATE_FILE
    return read_json(path, dict[str, TrackerState]) if path.exists() else {}


def _simple(value: Any) -> str | int | float | bool:
    """Return a value that every tracker stores: numbers and texts as they are."""
    return value if isinstance(value, (str, int, float, bool)) else str(value)
