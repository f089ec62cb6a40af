"""The `harope` command: parser, dispatch to the commands, and error handling.

Each command is a module of this package, named like the command, with

    SUMMARY          one line for the list of commands
    EXAMPLE          one command line for --help
    add_arguments    function that adds the command's arguments to a parser
    run              function that executes the command with the parsed options
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from harope._utils.interruption import InterruptedBySignalError
from harope._utils.untrusted import printable
from harope.cli import (
    bench,
    compare,
    convert,
    demo,
    encode,
    encodings,
    evaluate,
    inspect,
    push,
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
    push,
    bench,
)

_MAX_LENGTH = 1000
"""Number of characters of an error that are shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute a command.

    Args:
        arguments: Command-line arguments; None for those of the process.

    Returns:
        Exit code: 0; 2 after an error, which is printed to stderr as one line (with `--debug`, the
        error is raised instead); 128 + N after an interruption by signal N, so 130 for Ctrl-C, 143
        for SIGTERM and 138 for SIGUSR1 on Linux.
    """
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not options.takes_fields:
        parser.error(f"unknown arguments: {' '.join(rest)}; see `harope {options.command} --help`")
    options.fields = rest
    try:
        options.run(options)
    except BrokenPipeError:
        # The reader of stdout has exited; redirect the output so that Python does not fail when it
        # flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except InterruptedBySignalError as stop:
        print(f"harope: {stop}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("harope: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ValueError, OSError, ImportError) as error:
        if options.debug:
            raise
        print(f"harope: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Create the parser with all commands.

    Returns:
        The parser. A parsed command has `run`, its function, and `takes_fields`, whether it takes
        configuration fields as further arguments.
    """
    parser = argparse.ArgumentParser(
        prog="harope",
        description="Train, sample and score image transformers with HARoPE and its baselines.",
        epilog="Each command has --help with an example. To get started: harope demo",
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=module.run, takes_fields=False)
        module.add_arguments(command)
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Formatter that appends defaults to help texts, except those of flags and absent ones."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        shown = isinstance(default, (str, int, float, Path)) and not isinstance(default, bool)
        if not shown or default == argparse.SUPPRESS or text is None or "%(default)" in text:
            return text
        return f"{text} (default: %(default)s)"


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines()
    text = " ".join(line.strip() for line in lines) if lines else type(error).__name__
    # A value that does not fit may be of any length.
    half = _MAX_LENGTH // 2
    shown = text if len(text) <= _MAX_LENGTH else f"{text[:half]} ... {text[-half:]}"
    return printable(shown)


if __name__ == "__main__":
    sys.exit(main())
