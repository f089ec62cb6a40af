"""The `harope` command: parser, dispatch to the commands, and error handling.

Each command is a module of this package, named like the command, with

    SUMMARY          one line for the list of commands
    EXAMPLE          one command line for --help
    EXTRA            extras of harope that it needs beyond the core; empty for none
    add_arguments    function that adds the command's arguments to a parser
    run              function that executes the command with the parsed options
"""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Sequence
from functools import partial

from harope._utils.interruption import InterruptedBySignalError
from harope._utils.progress import hidden_progress
from harope._utils.ranks import check_one_process, claim_report, explain_lost_process, rank
from harope._utils.suggestions import suggest
from harope.cli import (
    bench,
    compare,
    completion,
    convert,
    demo,
    encode,
    encodings,
    evaluate,
    gather,
    inspect,
    plan,
    push,
    recipes,
    sample,
    train,
)
from harope.cli.fields import print_recipe_help
from harope.cli.messages import one_line, warnings_as_lines
from harope.cli.missing import missing_package_advice
from harope.cli.parsers import Parser, add_command, common_options
from harope.cli.parsing import split_words

COMMANDS = (
    demo,
    encodings,
    recipes,
    plan,
    train,
    sample,
    evaluate,
    compare,
    inspect,
    encode,
    convert,
    gather,
    push,
    bench,
    completion,
)
_MODULES = {module.__name__.rpartition(".")[2]: module for module in COMMANDS}
_SHARED = ("train", "sample", "evaluate", "encode")
"""Commands whose work several processes share."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute a command.

    Args:
        arguments: Command-line arguments; None for those of the process.

    Returns:
        Exit code: 0; 2 after an error, which is printed to stderr as one line, by one of the
        processes if there are several (with `--debug`, the error is raised instead); 128 + N after
        an interruption by signal N, so 130 for Ctrl-C, 143 for SIGTERM and 138 for SIGUSR1 on
        Linux.

    Raises:
        ImportError: If a module of harope itself cannot be imported.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parse(words)
        if (command := getattr(options, "command", "train")) not in _SHARED:
            check_one_process(f"harope {command}")
        # Warnings and progress of many processes are alike.
        follows = rank() > 0
        level = "error" if follows and options.log_level == "warning" else options.log_level
        with warnings_as_lines(level), hidden_progress(options.quiet or follows):
            options.run(options)
    except BrokenPipeError:
        # The reader of stdout has exited; redirect the output so that Python does not fail when it
        # flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except InterruptedBySignalError as stop:
        if rank() == 0:
            print(f"harope: {stop}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        if rank() == 0:
            print("harope: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        # Of several processes, which end for the same reason, one reports.
        reports, message = claim_report(), _message(error, words)
        if message is None or "--debug" in words:
            raise
        if reports:
            print(f"harope: error: {message}", file=sys.stderr, flush=True)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Create the parser with all commands.

    Returns:
        The parser. A parsed command has `run`, its function, and `takes_fields`, whether it takes
        configuration fields as further arguments.
    """
    parser: argparse.ArgumentParser = Parser(
        prog="harope",
        description="Train, sample and score image transformers with HARoPE and its baselines.",
        epilog="Each command has --help with an example. To get started: harope demo",
        parents=[common_options()],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_VersionAction, nargs=0, help="print versions and exit")
    parser.set_defaults(debug=False, quiet=False, log_level="warning")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _MODULES.items():
        command = add_command(commands, name, module.SUMMARY, module.EXAMPLE)
        command.set_defaults(run=module.run, takes_fields=False, fields=[])
        module.add_arguments(command)
    return parser


def _parse(words: list[str]) -> argparse.Namespace:
    """Parse a command line; fields of the configuration are in `fields`, as words."""
    parser = build_parser()
    if not words:
        parser.print_help()
        parser.exit()
    position = _find_command(words)
    if position is None:
        return parser.parse_args(words)
    name = words[position]
    if name not in _MODULES:
        raise ValueError(f"command {name!r} is unknown: {suggest(name, _MODULES)}")
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    command: argparse.ArgumentParser = commands.choices[name]
    own, fields = split_words(
        words[position + 1 :], command, takes_fields=command.get_default("takes_fields")
    )
    if fields_of_recipe := _asks_for_fields(own, command):
        show = partial(print_recipe_help, command.prog, fields_of_recipe, fields)
        return argparse.Namespace(run=lambda _: show(), log_level="warning", quiet=False)
    command.set_defaults(fields=fields)
    return parser.parse_args([*words[: position + 1], *own])


def _asks_for_fields(words: Sequence[str], command: argparse.ArgumentParser) -> str | None:
    """Return the recipe of `harope train RECIPE --help`; None for other command lines."""
    if not command.get_default("takes_fields") or not {"-h", "--help"} & set(words):
        return None
    return None if words[0].startswith("-") else words[0]


def _find_command(words: Sequence[str]) -> int | None:
    """Return the index of the first word that is neither an option nor the value of one."""
    for index, word in enumerate(words):
        if not word.startswith("-") and (index == 0 or words[index - 1] != "--log-level"):
            return index
    return None


def _message(error: Exception, words: Sequence[str]) -> str | None:
    """Return what to print of an error; None for one that is a bug."""
    if isinstance(error, (ValueError, OSError, ImportError)) and not _is_ours(error):
        return one_line(_advice(error, words))
    return explain_lost_process(error) if isinstance(error, RuntimeError) else None


def _is_ours(error: Exception) -> bool:
    """Tell whether an import failed inside harope, which is a bug and no missing package."""
    name = error.name if isinstance(error, ImportError) else None
    return name is not None and name.partition(".")[0] == "harope"


def _advice(error: Exception, words: Sequence[str]) -> object:
    """Return what to print of an error: of a missing package, how to install it."""
    missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
    if not isinstance(missing, ModuleNotFoundError) or missing.name is None:
        return error
    position = _find_command(words)
    name = "" if position is None else words[position]
    extra = _MODULES[name].EXTRA if name in _MODULES else ""
    return missing_package_advice(missing, f"harope {name}".rstrip(), extra)


class _VersionAction(argparse.Action):
    """Option that prints the versions of harope, PyTorch and Python, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import torch

        from harope import __version__

        python = platform.python_version()
        print(f"harope {__version__} (torch {torch.__version__}, Python {python})")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
