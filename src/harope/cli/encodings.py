"""`harope encodings`."""

import argparse

SUMMARY = "list the encodings, with equations and sources"
EXAMPLE = "harope encodings"
EXTRA = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments; this command has none.

    Args:
        parser: Parser of the command.
    """


def run(options: argparse.Namespace) -> None:
    """Print the equation and the source of every preset.

    Args:
        options: Parsed arguments.
    """
    from harope.rope.presets import PRESETS

    print(
        "R is the rotation by the angles of a token's position; A = I at the start of training.\n"
    )
    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        print(f"{name:<{width}}  {preset.equation}")
        print(f"{'':<{width}}  {preset.source}")
