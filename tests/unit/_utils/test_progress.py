"""Progress on stderr, with and without a terminal."""

import pytest

from harope._utils import progress
from harope._utils.progress import Progress, format_seconds, hidden_progress, print_progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(clock, seconds_each: float, count: int, **options) -> None:
    with Progress(count, "samples", **options) as bar:
        for _ in range(count):
            clock[0] += seconds_each
            bar.update()


def test_short_work_prints_nothing(clock, capsys):
    work(clock, 0.1, 50)
    assert capsys.readouterr().err == ""


def test_long_work_prints_sparse_lines_with_the_time_left(clock, capsys):
    work(clock, 5.0, 60)
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "harope: samples: 2 of 60, 5.0 s each, 4 min 50 s left"
    # After 30, 70, 130, 190 and 250 seconds.
    assert len(others) == 5


def test_fast_work_has_a_rate_and_what_was_done_before_does_not_count(clock, capsys):
    with Progress(100, "steps", done=40) as bar:
        clock[0] = 12.0
        bar.update(24)
    line = capsys.readouterr().err.strip()
    assert line == "harope: steps: 64 of 100, 2.0 per second, 18 s left"


def test_a_note_is_part_of_the_line(clock, capsys):
    with Progress(10, "steps") as bar:
        bar.note("loss 0.5")
        clock[0] = 20.0
        bar.update()
    assert capsys.readouterr().err.strip().endswith("left, loss 0.5")


def test_hidden_progress_prints_nothing(clock, capsys):
    work(clock, 60.0, 5, quiet=True)
    with hidden_progress():
        work(clock, 60.0, 5)
        print_progress("plots")
    assert capsys.readouterr().err == ""
    print_progress("plots")
    assert capsys.readouterr().err == "plots\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (130.0, "2 min 10 s"), (11100.0, "3 h 5 min")],
)
def test_durations_are_written_for_people(seconds, text):
    assert format_seconds(seconds) == text
