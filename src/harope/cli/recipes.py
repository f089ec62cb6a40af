"""`harope recipes`."""

import argparse

SUMMARY = "list the recipes of `harope train`"
EXAMPLE = "harope recipes"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments; this command has none.

    Args:
        parser: Parser of the command.
    """


def run(options: argparse.Namespace) -> None:
    """Print the name and the summary of every recipe.

    Args:
        options: Parsed arguments.
    """
    from harope.lab.recipes import RECIPES

    width = max(map(len, RECIPES))
    for recipe in RECIPES.values():
        print(f"{recipe.name:<{width}}  {recipe.summary}")
