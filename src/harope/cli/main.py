"""`harope`: the commands, and errors as one line on stderr with exit code 2."""

import argparse
import os
import sys
from collections.abc import Sequence

from harope.cli import (
    bench,
    compare,
    convert,
    demo,
    encode,
    encodings,
    evaluate,
    inspect,
    recipes,
    sample,
    train,
)

COMMANDS = (
    demo,
    encodings,
    recipes,
    train,
    sample,
    evaluate,
    compare,
    inspect,
    encode,
    convert,
    bench,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 for bad input."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not options.takes_fields:
        parser.error(f"unknown arguments: {' '.join(rest)}; see `harope {options.command} --help`")
    options.fields = rest
    try:
        options.run(options)
    except BrokenPipeError:
        # The reader of our output has gone; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError) as error:
        if options.debug:
            raise
        print(f"harope: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="harope",
        description="Train, sample and score image transformers with HARoPE and its baselines.",
        epilog="Each command has --help with an example. Start with: harope demo",
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=module.run, takes_fields=False)
        module.add_arguments(command)
    return parser


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return " ".join(line.strip() for line in lines) if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
