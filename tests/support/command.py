"""The command line as tests run it: several processes, and refusals."""

import os
import subprocess
import sys


def refuses(harope, *arguments: object, says: tuple[str, ...]) -> None:
    """Check that a command ends with one line on stderr that says all of `says`."""
    done = harope(*arguments, code=2)
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("harope: error: ")
    for words in says:
        assert words in lines[0], lines[0]


def launcher(processes: int) -> list[str]:
    """Return the beginning of a command line that starts several processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, "--nproc_per_node", str(processes)]


def launch(folder, processes: int, *arguments: str) -> str:
    """`harope` under torchrun, on the CPU over gloo; what all of them print."""
    command = [*launcher(processes), "-m", "harope.cli.main", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
