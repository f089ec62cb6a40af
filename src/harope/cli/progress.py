"""Lines of progress of commands."""

import sys


def print_progress(line: str) -> None:
    """Print a line of progress to stderr, so that stdout has only results.

    Args:
        line: What the command does now.
    """
    print(line, file=sys.stderr, flush=True)
