import os
import signal
import threading

import pytest

from harope._utils.interruption import SIGNALS, InterruptedBySignalError, deferred_signals


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_recorded_and_handled_as_before_afterwards(number):
    former = signal.getsignal(number)
    with deferred_signals() as pending:
        assert pending.number == 0
        os.kill(os.getpid(), number)
        assert pending.number == number
    assert signal.getsignal(number) == former


def test_pressing_ctrl_c_twice_interrupts_at_once():
    with deferred_signals() as pending:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            pending.receive(signal.SIGINT, None)


def test_threads_leave_signals_alone():
    seen = []

    def work():
        with deferred_signals() as pending:
            seen.append((pending.number, signal.getsignal(signal.SIGTERM)))

    former = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, former)]


def test_the_exit_code_is_that_of_shells():
    assert InterruptedBySignalError(signal.SIGINT, "stopped").exit_code == 130
    assert InterruptedBySignalError(signal.SIGTERM, "stopped").exit_code == 143
