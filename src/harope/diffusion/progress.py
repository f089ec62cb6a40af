"""What samplers tell their caller while they run."""

from collections.abc import Callable

OnStep = Callable[[int, int], None]
"""`on_step(done, total)`, called after every step."""


def report_step(on_step: OnStep | None, done: int, total: int) -> None:
    """Call `on_step`, if there is one."""
    if on_step is not None:
        on_step(done, total)
