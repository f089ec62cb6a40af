"""Write the pinned numbers anew, after a change that is meant to move them.

    python tests/golden/regenerate.py            # all of them
    python tests/golden/regenerate.py training   # of one topic

The files under `tests/golden/files` are not touched: they are what older code wrote.
"""

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

sys.path.insert(1, str(Path(__file__).parents[1]))

TOPICS = ("encodings", "hosts", "training", "samples", "files")


def numbers(topic: str) -> dict[str, Any]:
    """The numbers of all cases of a topic."""
    module = import_module(f"test_golden_{topic}")
    found = {}
    for case in module.CASES:
        with tempfile.TemporaryDirectory() as folder:
            found[case] = module.numbers(case, Path(folder))
    return found


def main() -> None:
    """Every topic, or those named on the command line."""
    from support.golden import write_numbers

    torch.set_num_threads(1)
    for topic in sys.argv[1:] or TOPICS:
        write_numbers(topic, numbers(topic))


if __name__ == "__main__":
    main()
