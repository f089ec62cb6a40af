"""Page on the cost of the encodings: the full benchmark of `harope bench`."""

from harope.lab.bench.main import BenchConfig, run_bench, target_table, time_table
from scripts.results.page import COMMAND, PAGES, WORK, write_page


def write_speed() -> None:
    """Write the page of the benchmark on this machine."""
    report = run_bench(BenchConfig(), WORK / "speed")
    (PAGES / "speed.png").write_bytes((WORK / "speed" / "bench.png").read_bytes())
    write_page(
        "speed",
        "Cost of the encodings",
        f"Produced by `{COMMAND} speed`; `harope bench --quick` measures the first two tables in "
        "three minutes. All workloads of a table run in one process, one after the other in every "
        "round. Ratios are taken round by round; the table shows their median and quartiles. The "
        "variation between runs exceeds these quartiles (docs/log.md), so a single run does not "
        "prove that a target is met.",
        [("", "machine"), *report.machine.items()],
        "## Targets",
        target_table(report),
        "## Times",
        "Rotations: float32 queries of shape (16, 12, 256, 64); `half` pairs channel i with i + "
        "32; `diffusers, complex` is diffusers' rotation with complex tables, which expects "
        "(batch, tokens, heads, channels). Steps and forward passes: DiT-S/2, batch size 8, 256 "
        "tokens, float32.",
        time_table(report),
        "## Growth",
        "Time of a rotation when one size is varied, starting from batch size 4, 12 heads, 256 "
        "tokens and 64 channels.",
        "![growth](speed.png)",
        "GPU: not measured.",
    )
