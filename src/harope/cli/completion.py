"""`harope completion`."""

import argparse

SUMMARY = "print the script that completes commands and options in a shell"
EXAMPLE = "harope completion bash > ~/.local/share/bash-completion/completions/harope"
EXTRA = "completion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope completion`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="shell of the script")


def run(options: argparse.Namespace) -> None:
    """Print the script.

    Args:
        options: Parsed arguments.
    """
    import shtab

    from harope.cli.main import build_parser

    print(shtab.complete(build_parser(), shell=options.shell))
