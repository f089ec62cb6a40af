"""`harope encodings`."""

import argparse

SUMMARY = "list the encodings with their equations and sources"
EXAMPLE = "harope encodings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command takes no arguments."""


def run(options: argparse.Namespace) -> None:
    """Print one entry per preset."""
    from harope.rope.presets import PRESETS

    print(
        "R is the rotation by the angles of a token's position; A = I at the start of training.\n"
    )
    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        print(f"{name:<{width}}  {preset.equation}")
        print(f"{'':<{width}}  {preset.source}")
