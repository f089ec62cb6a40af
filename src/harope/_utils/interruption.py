"""Stopping a long computation at a convenient place when a signal asks for it."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)
"""Signals by which a user (Ctrl-C), a cluster's scheduler or a time limit stops a process."""


class InterruptedBySignalError(Exception):
    """A computation was stopped by a signal and can be resumed.

    Args:
        number: Number of the signal.
        message: What was stopped and how it is resumed.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_code(self) -> int:
        """Exit code of a process that ends by this signal, by the convention of shells."""
        return 128 + self.number


class PendingSignal:
    """The last signal that was received, if any."""

    def __init__(self) -> None:
        self.number = 0
        """Number of the signal; 0 for none."""

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Record a signal.

        Args:
            number: Number of the signal.
            frame: Where the program was; not used.

        Raises:
            KeyboardInterrupt: If Ctrl-C is pressed a second time.
        """
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def deferred_signals() -> Iterator[PendingSignal]:
    """Record the `SIGNALS` inside the `with` block instead of acting on them.

    The block looks at the number from time to time, and stops when it is convenient. Outside the
    main thread, where Python cannot handle signals, nothing is recorded.

    Yields:
        The pending signal.
    """
    pending = PendingSignal()
    with handled_signals(SIGNALS, pending.receive):
        yield pending


def ignore_signals(worker: int = 0) -> None:
    """Ignore the `SIGNALS` in this process, a worker whose parent decides when it ends.

    Ctrl-C and schedulers send signals to the whole group of processes. A worker that ended by one
    would leave its parent without the data of the current step.

    Args:
        worker: Number of the worker, which a DataLoader passes to its `worker_init_fn`.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stopped_by_signals(message: str) -> Iterator[None]:
    """Raise one kind of error when SIGINT or SIGTERM arrives inside the `with` block.

    Outside the main thread, where Python cannot handle signals, nothing changes.

    Args:
        message: How the computation is resumed, the end of the error's message.

    Yields:
        Nothing.

    Raises:
        InterruptedBySignalError: A signal arrived; inside the block it is a KeyboardInterrupt.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    with handled_signals((signal.SIGINT, signal.SIGTERM), stop):
        try:
            yield
        except KeyboardInterrupt:
            number = received[0] if received else signal.SIGINT
            name = signal.Signals(number).name
            raise InterruptedBySignalError(number, f"stopped by {name}; {message}") from None


@contextmanager
def handled_signals(
    numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals by a function inside the `with` block, if this is the main thread.

    Args:
        numbers: Signals.
        handler: Called with the signal and the current frame.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in former.items():
            # None stands for a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
