"""Every crash point of a command, random kills and full disks; then the same command again."""

import random
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from soak.faults import KILLED, Fault, Outcome, trial
from soak.scenarios import Scenario, litter

Verdict = Literal["identical", "refused", "lost", "silent", "traceback"]
VERDICTS: tuple[Verdict, ...] = ("identical", "refused", "lost", "silent", "traceback")


@dataclass
class Tally:
    """How injected faults ended: numbers, and examples of all that is not identical."""

    title: str
    """Row of the table."""
    counts: Counter[Verdict] = field(default_factory=Counter)
    """Number of faults by verdict."""
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Faults by what was seen, for those that are not identical."""
    littered: int = 0
    """Faults after which temporary files remained in the end."""

    @property
    def injected(self) -> int:
        """Number of faults."""
        return self.counts.total()

    def add(self, verdict: Verdict, fault: str, seen: str = "") -> None:
        """Count a fault, and keep what was seen as an example."""
        self.counts[verdict] += 1
        if verdict != "identical":
            self.examples[f"{verdict}: {seen}"[:200]].append(fault)


@dataclass(frozen=True)
class Workplace:
    """Folders of one scenario: inputs, outputs, and scratch files of the trials."""

    folder: Path
    """Parent of all of them."""

    def __post_init__(self) -> None:
        for folder in (self.inputs, self.scratch):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def inputs(self) -> Path:
        """Inputs, made once."""
        return self.folder / "inputs"

    @property
    def root(self) -> Path:
        """Outputs, which faults hit."""
        return self.folder / "root"

    @property
    def scratch(self) -> Path:
        """Output of the trials."""
        return self.folder / "scratch"

    def clear(self) -> None:
        """Empty the folder of outputs."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)


class CrashTest:
    """Interrupts a scenario and compares what the repeated command leaves with the uninterrupted.

    Args:
        scenario: The command.
        folder: Folder to work in.
    """

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario, self.place = scenario, Workplace(folder)
        scenario.prepare(self.place.inputs)
        self.place.clear()
        self.work = scenario.work(self.place.inputs, self.place.root)
        began = time.monotonic()
        first = self._trial()
        self.seconds = time.monotonic() - began
        if first.code != 0:
            raise RuntimeError(f"{scenario.name} fails without a fault: {first.text}")
        self.points = first.points
        self.expected = scenario.digest(self.place.root)
        self.litter = litter(self.place.root)

    def at_points(self, fault: Fault, points: Iterator[int]) -> Tally:
        """Cause a fault at each of these points, numbered from 1."""
        tally = Tally(f"{self.scenario.name}, {fault}")
        for number in points:
            self.place.clear()
            first = self._trial(fault=fault, at=number)
            name = f"point {number}: {self.points[number - 1]}"
            if fault == "kill" and first.code != KILLED:
                tally.add("traceback", name, f"the point was not reached: {first.text[-200:]}")
            elif fault == "full" and not (first.code == 0 or first.is_refusal):
                tally.add("traceback", name, f"full disk: {_last_line(first)}")
            else:
                self._repeat(tally, name)
        return tally

    def at_random(self, kills: int, seed: int) -> Tally:
        """Kill the command at random moments, sometimes several times in a row."""
        tally, generator = Tally(f"{self.scenario.name}, kill -9"), random.Random(seed)
        done = 0
        while done < kills:
            self.place.clear()
            chain = min(generator.choice((1, 1, 3)), kills - done)
            moments = [generator.uniform(0.02, self.seconds) for _ in range(chain)]
            for moment in moments:
                self._trial(signal_after=moment)
            done += chain
            self._repeat(tally, f"killed after {moments}", weight=chain)
        return tally

    def _repeat(self, tally: Tally, name: str, weight: int = 1) -> None:
        again = self._trial()
        verdict, seen = self._judge(again)
        for _ in range(weight):
            tally.add(verdict, name, seen)
        tally.littered += litter(self.place.root) != self.litter

    def _judge(self, again: Outcome) -> tuple[Verdict, str]:
        if again.code != 0:
            return ("refused" if again.is_refusal else "traceback"), _last_line(again)
        try:
            found = self.scenario.digest(self.place.root)
        except Exception as error:  # Whatever is missing or damaged is a loss.
            return "lost", f"{type(error).__name__}: {error}"
        return compare(found, self.expected)

    def _trial(self, **options: Any) -> Outcome:
        return trial(self.work, self.place.root, self.place.scratch, **options)


def compare(found: Any, expected: Any) -> tuple[Verdict, str]:
    """Compare digests: what is missing is lost, what differs is a silent error."""
    if found == expected:
        return "identical", ""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return "silent", "another result"
    missing = [name for name in expected if name not in found]
    if missing:
        return "lost", f"lacks {', '.join(missing)}"
    other = [name for name in found if found[name] != expected.get(name)]
    return "silent", f"differs in {', '.join(other)}"


def _last_line(outcome: Outcome) -> str:
    lines = outcome.text.strip().splitlines()
    return f"exit code {outcome.code}: {lines[-1] if lines else ''}"
