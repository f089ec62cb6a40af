"""Lines of progress of all parts of the demo together, with the time left."""

import time
from collections.abc import Callable, Mapping

from harope._utils.progress import format_seconds


class DemoProgress:
    """Prints what is done now, and estimates the time left from the time that was needed so far.

    Args:
        estimates: Seconds of every part that is still to do, on two cores without other load.
        log: Called with each line.
    """

    PAUSE = 5.0
    """Seconds between two lines of one part."""

    def __init__(self, estimates: Mapping[str, float], log: Callable[[str], None]) -> None:
        self._estimates, self._log = dict(estimates), log
        self._started = self._last = time.perf_counter()
        self._done, self._part = 0.0, ""

    def begin(self, part: str, title: str) -> None:
        """Begin the next part.

        Args:
            part: Name of the part, a key of the estimates.
            title: What is done.
        """
        self._done += self._estimates.get(self._part, 0.0)
        self._part = part
        number = list(self._estimates).index(part) + 1
        self._write(f"[{number}/{len(self._estimates)}] {title}", 0.0)

    def update(self, done: int, total: int, unit: str) -> None:
        """Print how far the part is, unless the last line is recent.

        Args:
            done: Units that are done.
            total: Units of the part.
            unit: Name of the units, such as "step".
        """
        if time.perf_counter() - self._last >= self.PAUSE:
            self._write(f"      {unit} {done} of {total}", done / total)

    def _write(self, text: str, fraction: float) -> None:
        self._last = time.perf_counter()
        total = sum(self._estimates.values())
        done = self._done + fraction * self._estimates[self._part]
        # At first there is no own measurement: the estimates count as one of 10 seconds.
        pace = (self._last - self._started + 10) / (done + 10)
        self._log(f"{text}, about {format_seconds(round(pace * (total - done), -1))} left")
