"""`harope recipes`."""

import argparse

SUMMARY = "list the recipes that `harope train` takes"
EXAMPLE = "harope recipes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(options: argparse.Namespace) -> None:
    """Print one line per recipe."""
    from harope.lab.recipes import RECIPES

    width = max(map(len, RECIPES))
    for recipe in RECIPES.values():
        print(f"{recipe.name:<{width}}  {recipe.summary}")
