"""Page on the cost of the encodings: the full benchmark of `harope bench`."""

from harope.lab.bench.main import BenchConfig, run_bench, target_table, time_table
from scripts.results.page import COMMAND, PAGES, WORK, write_page


def write_speed() -> None:
    """What the encodings cost on this machine."""
    report = run_bench(BenchConfig(), WORK / "speed")
    (PAGES / "speed.png").write_bytes((WORK / "speed" / "bench.png").read_bytes())
    write_page(
        "speed",
        "What the encodings cost",
        f"Made by `{COMMAND} speed`; `harope bench --quick` measures the first two tables in three "
        "minutes. All works of a table run in one process, one after the other in every round; a "
        "ratio is taken round by round, its median and quartiles are shown. Between runs ratios "
        "differ by more than these quartiles (docs/log.md): one run proves no goal.",
        [("", "machine"), *report.machine.items()],
        "## Goals",
        target_table(report),
        "## Times",
        "Rotations of float32 queries (16, 12, 256, 64); `half` pairs channel i with i + 32. "
        "`diffusers, complex` is its form for complex tables, on (batch, tokens, heads, channels). "
        "Steps and forwards: DiT-S/2, batch 8, 256 tokens, float32.",
        time_table(report),
        "## Growth",
        "A rotation around 4 samples of 12 heads of 256 tokens with 64 channels, one size at a "
        "time.",
        "![growth](speed.png)",
        "GPU: not measured.",
    )
