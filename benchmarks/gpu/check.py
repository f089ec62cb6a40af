"""Check and time harope on one GPU.

    PYTHONPATH=src:. python benchmarks/gpu/check.py --out gpu.json

It takes less than 8 minutes on an H100. README.md in this folder describes the parts, the packages
that they need and the JSON object, which is also the last line of the output.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

# Before harope.lab, which imports what it stands in for.
import benchmarks.gpu.stand_ins  # noqa: F401 (imported for its effect)
from benchmarks.gpu import environment, evidence, kernel_speed, kernels, models, training
from benchmarks.gpu.bench import Bench, Part

PARTS = (
    Part("environment", environment.environment, needs=0),
    Part("rotation_accuracy", kernels.rotation_accuracy),
    Part("rotation_gradients", kernels.rotation_gradients),
    Part("normed_accuracy", kernels.normed_accuracy),
    Part("exponential", kernels.exponential),
    Part("every_encoding", models.every_encoding),
    Part("kernel_speed", kernel_speed.kernel_speed),
    Part("dit_plain", training.dit_plain),
    Part("dit_eager", training.dit_eager),
    Part("dit_compiled", training.dit_compiled, needs=70, in_tiny=False),
    Part("dit_folded", training.dit_folded),
    Part("dit_xl_compiled", training.dit_xl_compiled, needs=100, in_tiny=False),
    Part("timm_host", models.timm_host),
    Part("cuda_graphs", models.cuda_graphs, needs=45, in_tiny=False),
    Part("sampling_speed", models.sampling_speed),
    Part("scenes_training", training.scenes_training),
    Part("render_speed", training.render_speed),
    Part("imports", environment.imports),
    Part("normed_backward", kernel_speed.normed_backward, needs=80, in_tiny=False),
    Part("study", evidence.study, needs=300, in_tiny=False),
)
"""All parts in order of worth: whether results are right, then what the goals need."""


def select_parts(names: str | None, *, tiny: bool) -> Sequence[Part]:
    """Select the parts to run.

    Args:
        names: Names separated by commas; None for all.
        tiny: Whether the run is tiny.

    Returns:
        Parts in their order.

    Raises:
        ValueError: A name is unknown, or the part is left out of tiny runs.
    """
    known = {part.name: part for part in PARTS if part.in_tiny or not tiny}
    if names is None:
        return list(known.values())
    selected = names.split(",")
    for name in selected:
        if name not in known:
            reason = "not run with --tiny" if name in {part.name for part in PARTS} else "unknown"
            raise ValueError(f"part {name!r} is {reason}; available: {', '.join(known)}")
    return [part for part in known.values() if part.name in selected]


def prepare_compilers(*, interpret: bool) -> None:
    """Set the environment variables that Triton and inductor read when they are first imported.

    Args:
        interpret: Whether Triton interprets kernels on the CPU.
    """
    os.environ.pop("TRITON_INTERPRET", None)
    if interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "8")


def main(arguments: list[str]) -> int:
    """Execute the command.

    Args:
        arguments: Command-line arguments.

    Returns:
        Exit code: 0, 1 if a part failed or was skipped, or 2 after a wrong argument.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file, written after every part")
    parser.add_argument(
        "--budget",
        type=float,
        default=460,
        help="seconds after which no part begins, without the import of torch (%(default)s)",
    )
    parser.add_argument("--only", help="names of parts, separated by commas (default: all)")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to test the check")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    options = parser.parse_args(arguments)
    try:
        parts = select_parts(options.only, tiny=options.tiny)
    except ValueError as error:
        print(f"check: error: {error}", file=sys.stderr)
        return 2
    on_gpu = torch.cuda.is_available() and not options.cpu
    prepare_compilers(interpret=options.tiny and not on_gpu)
    device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")
    torch.manual_seed(0)
    bench = Bench(device, tiny=options.tiny, budget=options.budget, out=options.out)
    for part in parts:
        bench.run(part)
    report = bench.finish()
    print(report.to_json())
    return int(bool(report.failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
