"""Progress of commands that consist of a few different parts."""

import time

from harope._utils.progress import format_seconds, print_progress


class Stages:
    """Lines of progress, one at the start of each part of a command.

    Args:
        total: Number of parts.
    """

    def __init__(self, total: int) -> None:
        self._total, self._begun = total, 0
        self._started = time.monotonic()

    def __call__(self, line: str) -> None:
        """Print what begins, with an estimate of the time that is left after the first part.

        Args:
            line: Name of the part.
        """
        seconds, done = time.monotonic() - self._started, self._begun
        self._begun = min(done + 1, self._total)
        left = ""
        if done and seconds > 1:
            estimate = seconds / done * (self._total - done)
            left = f" (after {format_seconds(seconds)}, about {format_seconds(estimate)} left)"
        print_progress(f"[{self._begun}/{self._total}] {line}{left}")
