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
    """Print what every preset is made of, its equation and its source.

    Args:
        options: Parsed arguments.
    """
    from harope.rope.presets import GROUPS, PRESETS

    print(
        "R is the rotation by the angles of a token's position p; A = I at the start of training.\n"
        "Below each equation: positions x frequencies x basis, which can all be combined."
    )
    width = max(map(len, PRESETS))
    for group in GROUPS:
        print(f"\n{group}\n")
        for name, preset in PRESETS.items():
            if preset.group != group:
                continue
            config = preset.config
            print(f"{name:<{width}}  {preset.equation}")
            if config.frequencies != "none":
                parts = f"{config.positions} x {config.frequencies} x {config.basis}"
                print(f"{'':<{width}}  {parts}")
            print(f"{'':<{width}}  {preset.source}")
