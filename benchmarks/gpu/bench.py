"""Runs the parts of a check on one device, times them, and collects what they found."""

import contextlib
import json
import statistics
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch

Result: TypeAlias = dict[str, Any]
T = TypeVar("T")

WARM_UP_CALLS = 3
L2_BYTES = 64 << 20
"""Size of a buffer that fills the L2 cache of an H100 (50 MB)."""


@dataclass(frozen=True)
class Part:
    """A part of a check: one function, whose results have one key in the report."""

    name: str
    """Key of its results in the report."""
    run: Callable[["Bench"], Result]
    """Function that measures and returns plain values for JSON."""
    needs: float = 20.0
    """Seconds that must be left of the budget for the part to begin."""
    in_tiny: bool = True
    """Whether it is part of a tiny run, which leaves out what compiles for long."""


@dataclass
class Report:
    """What a check found, as written to its JSON file."""

    parts: dict[str, Result] = field(default_factory=dict)
    """Results of the parts that ran to their end."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of each part."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why a part has no results: the exception that ended it, or the time that was left."""
    total_s: float | None = None
    """Duration of the whole check, known at its end."""

    def to_json(self, indent: int | None = None) -> str:
        """Return the report as a JSON object.

        Args:
            indent: Spaces per level; None for a single line.

        Returns:
            JSON text without a final newline.
        """
        values = {name: value for name, value in vars(self).items() if value is not None}
        return json.dumps(values, indent=indent)


class Bench:
    """Runs parts on a device until a budget of time is spent.

    Args:
        device: Where to measure.
        tiny: Whether to use small sizes and few repetitions, to test the check itself.
        budget: Seconds from now after which parts are skipped.
        out: File of the report, which is written after every part; None for none.
    """

    def __init__(
        self, device: torch.device, *, tiny: bool, budget: float, out: Path | None
    ) -> None:
        self.device, self.tiny, self.budget, self.out = device, tiny, budget, out
        self.report = Report()
        self.on_gpu = device.type == "cuda"
        self._started = time.monotonic()

    def seconds_left(self) -> float:
        """Return how much of the budget is left.

        Returns:
            Seconds, negative after the end of the budget.
        """
        return self.budget - self._seconds()

    def run(self, part: Part) -> None:
        """Run a part and write the report.

        An exception or a spent budget becomes an entry of the report and does not end the check.

        Args:
            part: What to run.
        """
        if self.seconds_left() < part.needs:
            self.report.failed[part.name] = f"skipped: {self.seconds_left():.0f} s left"
            return
        started = self._seconds()
        print(f"[{started:6.1f} s] {part.name}", flush=True)
        try:
            self.report.parts[part.name] = part.run(self)
        except Exception as error:  # The other parts are worth their time on the device.
            self.report.failed[part.name] = describe(error, 600)
            lines = traceback.format_exc().strip().splitlines()[-6:]
            print("   FAILED", "\n   ".join(lines), flush=True)
        self.report.seconds[part.name] = round(self._seconds() - started, 2)
        # After an illegal memory access every call of CUDA raises, this one included.
        with contextlib.suppress(RuntimeError):
            self.free_memory()
        self._write()

    def finish(self) -> Report:
        """Write the report with the total duration.

        Returns:
            The finished report.
        """
        self.report.total_s = round(self._seconds(), 1)
        self._write()
        return self.report

    def synchronize(self) -> None:
        """Wait until the GPU has finished its work."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def free_memory(self) -> None:
        """Return the memory of deleted tensors to the GPU."""
        if self.on_gpu:
            torch.cuda.empty_cache()

    def milliseconds(
        self, work: Callable[[], object], *, seconds: float = 0.25, most: int = 200
    ) -> float:
        """Time a function.

        On a GPU, events measure the time between the start and the end of its kernels, with a cold
        L2 cache.

        Args:
            work: Function to call; it is called several times before the measurement.
            seconds: How long to measure, approximately.
            most: Largest number of calls to measure.

        Returns:
            Median duration of a call in milliseconds.
        """
        for _ in range(WARM_UP_CALLS):
            work()
        self.synchronize()
        began = time.perf_counter()
        work()
        self.synchronize()
        once = max(time.perf_counter() - began, 1e-6)
        calls = 3 if self.tiny else max(5, min(most, int(seconds / once)))
        times = self._gpu_times(work, calls) if self.on_gpu else _cpu_times(work, calls)
        return statistics.median(times)

    def _gpu_times(self, work: Callable[[], object], calls: int) -> list[float]:
        events = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in range(calls)
        ]
        buffer = torch.empty(L2_BYTES, dtype=torch.uint8, device=self.device)
        for first, last in events:
            buffer.zero_()  # Inputs that are left in the L2 cache would flatter small tensors.
            first.record()
            work()
            last.record()
        self.synchronize()
        return [first.elapsed_time(last) for first, last in events]

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _write(self) -> None:
        if self.out is not None:
            self.out.write_text(self.report.to_json(indent=1) + "\n")


def _cpu_times(work: Callable[[], object], calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - began))
    return times


def describe(error: Exception, length: int = 200) -> str:
    """Return the type and the beginning of the message of an exception.

    Args:
        error: The exception.
        length: Largest number of characters of the message.

    Returns:
        Text such as "ValueError: the message".
    """
    return f"{type(error).__name__}: {str(error)[:length]}"


def attempt(work: Callable[[], T], length: int = 200) -> T | str:
    """Call a function, so that its failure is a result like others.

    Args:
        work: Function to call.
        length: Largest number of characters of an error message.

    Returns:
        What the function returns, or a description of the exception that it raised.

    Raises:
        ModuleNotFoundError: A package is missing, so that all measurements of the part would fail.
    """
    try:
        with warnings.catch_warnings():
            # A kernel that gives way to PyTorch operations has failed here.
            warnings.filterwarnings("error", "the Triton kernel", RuntimeWarning)
            return work()
    except ModuleNotFoundError:
        raise
    except Exception as error:  # Such as a kernel that does not compile for this GPU.
        return describe(error, length)


def count_syncs(work: Callable[[], object]) -> dict[str, int]:
    """Count the calls that wait for the GPU, which PyTorch warns of.

    Args:
        work: Function to call.

    Returns:
        Number of waits by the file and line that caused them.
    """
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return dict(
        Counter(
            f"{Path(warning.filename).name}:{warning.lineno}"
            for warning in caught
            if "synchroniz" in str(warning.message)
        )
    )
