"""Entry point of `harope demo`."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harope._utils.atomic import remove_abandoned, write_json_atomic
from harope._utils.digests import weights_digest
from harope._utils.folder_lock import lock_folder
from harope._utils.identity import check_unused, first_difference
from harope._utils.interruption import stopped_by_signals
from harope._utils.json_files import read_json, validate
from harope.lab.experiments.demo.config import DemoConfig
from harope.lab.experiments.demo.page import write_demo_page
from harope.lab.experiments.demo.parts import (
    PARTS,
    RELEASED,
    Demo,
    estimated_seconds,
    released_folder,
)
from harope.lab.experiments.demo.progress import DemoProgress
from harope.models.dit import DiT

STATE_FILE, PAGE_FILE = "demo.json", "report.html"


@dataclass
class DemoState:
    """The file `demo.json`: what a demo is made from, and the results that exist."""

    identity: dict[str, Any]
    """Options, and digests of the released models."""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Result by part."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of each part in seconds."""
    memory_gib: float | None = None
    """Largest memory of a process of the demo in GiB; None if unknown."""


def run_demo(config: DemoConfig, out: Path, log: Callable[[str], None]) -> Path:
    """Run all parts of the demo, and write the page.

    Parts that exist are kept, so the same call goes on with an interrupted demo.

    Args:
        config: Options.
        out: Folder to write to.
        log: Called with each line of progress.

    Returns:
        Path of the page.

    Raises:
        ValueError: If another process uses the folder, or it holds something else, such as a demo
            with other options.
        InterruptedBySignalError: If SIGINT or SIGTERM stopped the demo.
    """
    with stopped_by_signals("repeat the command to go on"), lock_folder(out) as former:
        if former is not None:
            log(f"{out} was locked by {former}, which has ended")
        state = _open(config, out)
        missing = {
            name: seconds
            for name, seconds in estimated_seconds(config).items()
            if name not in state.results
        }
        page = out / PAGE_FILE
        if not missing and page.is_file():
            log(f"{out} holds this demo already: nothing to do (another --out starts a new one)")
            return page
        if missing and state.results:
            log(f"going on: {len(state.results)} of {len(PARTS)} parts exist")
        progress = DemoProgress(missing, log)
        demo = Demo(config, out, progress)
        for name in missing:
            part = PARTS[name]
            progress.begin(name, part.title)
            started = time.perf_counter()
            state.results[name] = asdict(part.compute(demo))
            state.seconds[name] = time.perf_counter() - started
            state.memory_gib = max(state.memory_gib or 0, peak_memory_gib() or 0) or None
            write_json_atomic(out / STATE_FILE, asdict(state))
        results: dict[str, Any] = {
            name: validate(state.results[name], part.result, out / STATE_FILE)
            for name, part in PARTS.items()
        }
        return write_demo_page(
            results, config, out, page, seconds=state.seconds, memory_gib=state.memory_gib
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


def _open(config: DemoConfig, out: Path) -> DemoState:
    """Return the state of the folder, after checking that it holds this demo or nothing."""
    digests = {
        name: weights_digest(DiT.from_pretrained(released_folder(name))) for name in RELEASED
    }
    identity = {"config": asdict(config), "models": digests}
    path = out / STATE_FILE
    if path.is_file():
        remove_abandoned(out)
        state = read_json(path, DemoState)
        if difference := first_difference(state.identity, identity):
            raise ValueError(
                f"{out} holds a demo with {difference}: choose another --out, or the same options "
                f"to go on"
            )
        return state
    check_unused(out, "demo")
    state = DemoState(identity)
    write_json_atomic(path, asdict(state))
    return state
