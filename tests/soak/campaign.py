"""Inject faults into commands of harope, and print one table: `make soak`.

    PYTHONPATH=tests python -m soak [--short] [--every N] [--page docs/results/reliability.md]

The table stands in docs/results/reliability.md. `--short` takes a few points of every kind.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1", MPLBACKEND="Agg")

from soak.crashes import VERDICTS, CrashTest, Tally
from soak.damage import DamageTest, read_hostile_files
from soak.faults import Fault, install
from soak.scenarios import SCENARIOS

BEGIN, END = "<!-- table: written by `make soak` -->", "<!-- end of table -->"
KILLS = {"train digits-dit": 24, "sample": 12, "text cache": 8, "evaluate distances": 8}
"""Number of random kills by scenario."""


def start_worker() -> None:
    """Prepare a process whose forks are the trials."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    install()


def faults_at_points(index: int, fault: Fault, every: int) -> list[Tally]:
    """Interrupt one scenario at every `every`-th point."""
    with tempfile.TemporaryDirectory() as folder:
        test = CrashTest(SCENARIOS[index], Path(folder))
        return [test.at_points(fault, iter(range(1, len(test.points) + 1, every)))]


def random_kills(index: int, kills: int) -> list[Tally]:
    """Kill one scenario at random moments."""
    with tempfile.TemporaryDirectory() as folder:
        return [CrashTest(SCENARIOS[index], Path(folder)).at_random(kills, seed=index)]


def damage_run() -> list[Tally]:
    """Damage every file of a finished run."""
    with tempfile.TemporaryDirectory() as folder:
        return list(DamageTest(Path(folder)).all_files())


def hostile_files(stride: int) -> list[Tally]:
    """Let commands read hostile files."""
    with tempfile.TemporaryDirectory() as folder:
        good = DamageTest(Path(folder) / "good").good
        return [read_hostile_files(Path(folder) / "work", good, stride)]


def fuzzed_calls() -> list[Tally]:
    """Call public functions with values of any kind."""
    from support.public_calls import CALLS, check

    tally = Tally("fuzzed calls")
    for name in CALLS:
        try:
            counts = check(name)
        except Exception as error:  # Anything but a ValueError that names the argument.
            tally.add("traceback", name, f"{type(error).__name__}: {error}")
            continue
        tally.counts["identical"] += counts["answered"]
        tally.counts["refused"] += counts["refused"]
    return [tally]


def jobs(every: int, short: bool) -> Iterator[Callable[[], list[Tally]]]:
    """Yield what can run at the same time, the longest first."""
    yield partial(hostile_files, every if short else 1)
    for index, scenario in enumerate(SCENARIOS):
        yield partial(faults_at_points, index, "kill", every)
        # A disk that is full from one point on is full at all later ones too.
        yield partial(faults_at_points, index, "full", 3 * every)
        if kills := KILLS.get(scenario.name, 0):
            yield partial(random_kills, index, min(kills, 1) if short else kills)
    if not short:
        yield damage_run
        yield fuzzed_calls


def table(tallies: list[Tally]) -> str:
    """Format the table in Markdown, with a last row of sums."""
    names = ("injected", *VERDICTS)
    lines = [f"| fault | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    rows = [
        (tally.title, [tally.injected, *(tally.counts[v] for v in VERDICTS)]) for tally in tallies
    ]
    sums = [sum(column) for column in zip(*(counts for _, counts in rows), strict=True)]
    for title, counts in [*rows, ("**sum**", sums)]:
        lines.append(f"| {title} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run everything; return 1 if anything was lost, silent or raised a traceback."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--every", type=int, default=2, help="crash at every N-th point (%(default)s)"
    )
    parser.add_argument("--short", action="store_true", help="a few points of every kind")
    parser.add_argument("--page", type=Path, help="page to write the table into")
    options = parser.parse_args(arguments)
    began, tallies = time.monotonic(), []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        futures = [
            pool.submit(job) for job in jobs(70 if options.short else options.every, options.short)
        ]
        for future in futures:
            for tally in future.result():
                tallies.append(tally)
                print(f"{tally.title}: {dict(tally.counts)}, {tally.littered} with litter")
                for seen, faults in tally.examples.items():
                    print(f"    {len(faults)} {seen}: {'; '.join(faults[:3])}", flush=True)
    minutes = (time.monotonic() - began) / 60
    text = f"{table(tallies)}\n\n`--every {options.every}`; took {minutes:.0f} minutes."
    print(text)
    if options.page:
        page = options.page.read_text()
        before, _, rest = page.partition(BEGIN)
        options.page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    bad = sum(tally.counts[verdict] for tally in tallies for verdict in VERDICTS[2:])
    return int(bad > 0)
