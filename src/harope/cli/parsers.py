"""Parsers of commands: one kind of error, common options, defaults in help texts, given options."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from harope.cli.messages import LEVELS


class Parser(argparse.ArgumentParser):
    """Parser whose errors are raised, so that they are printed like all others."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Formatter that appends defaults to help texts, except those of flags and absent ones."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        shown = isinstance(default, (str, int, float, Path)) and not isinstance(default, bool)
        if not shown or default == argparse.SUPPRESS or text is None or "%(default)" in text:
            return text
        return f"{text} (default: %(default)s)"


def add_command(commands: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """Add the parser of a command, or of a tool of a command.

    Args:
        commands: What `add_subparsers` returned.
        name: Name on the command line.
        summary: One line for the list of commands.
        example: A complete command line.

    Returns:
        The parser, with the options that all commands have.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=HelpFormatter,
        parents=[common_options()],
        allow_abbrev=False,
    )
    return parser


def common_options() -> argparse.ArgumentParser:
    """Create the parent parser of the options that may stand before and after a command.

    Returns:
        A parser without `--help`.
    """
    # Suppressed defaults do not replace what was given before the name of the command.
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("messages")
    group.add_argument("--quiet", action="store_true", help="hide progress; warnings are shown")
    group.add_argument(
        "--log-level",
        choices=LEVELS,
        help="what is shown besides errors: warnings (default), also what libraries log (info, "
        "debug), or nothing (error)",
    )
    group.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser


def add_json_argument(parser: argparse.ArgumentParser, content: str = "the scores") -> None:
    """Add the option of commands that print numbers.

    Args:
        parser: Parser of the command.
        content: What is written.
    """
    parser.add_argument("--json", type=Path, help=f"JSON file to write {content} to")


def given_options(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Select those options that are given.

    Args:
        options: Options of the command.
        names: Options to look up, which are None if they are not given.

    Returns:
        Values by name, without None.
    """
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
