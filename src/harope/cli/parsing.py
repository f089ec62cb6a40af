"""Command-line words as options, configuration fields and values."""

import argparse
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from harope._utils.suggestions import suggest
from harope.cli.synonyms import find_synonym

T = TypeVar("T")


class _Bare(str):
    """Type of `BARE`, so that it differs from a value that was written out."""


BARE: Final = _Bare("true")
"""Value of a field that is given as a flag, without a value; recognised by identity."""


def split_words(
    words: list[str], parser: argparse.ArgumentParser, *, takes_fields: bool
) -> tuple[list[str], list[str]]:
    """Separate the arguments of a command from configuration fields.

    Options are spelled as the parser has them: dashes and underscores are equal, and names of
    other tools are replaced, see `harope.cli.synonyms`.

    Args:
        words: Words after the name of the command.
        parser: Parser of the command, possibly with sub-parsers.
        takes_fields: Whether the command takes configuration fields.

    Returns:
        Words for the parser, and words for `parse_fields`.

    Raises:
        ValueError: If an option is unknown and the command takes no fields, or if it is another
            tool's option that has no equivalent.
    """
    options = {_key(name): name for name in _option_names(parser)}
    own: list[str] = []
    fields: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            own += [word, *rest]
            break
        if not word.startswith("--"):
            own.append(word)
            if (chosen := _sub_parsers(parser).get(word)) is not None:
                parser = chosen
                options |= {_key(name): name for name in _option_names(parser)}
            continue
        name, equals, value = word.partition("=")
        synonym = None if _key(name) in options else find_synonym(name)
        # An error about an option that the command does not have names it as it was typed.
        if synonym is not None and (takes_fields or _key(f"--{synonym}") in options):
            name = f"--{synonym}"
        if _key(name) in options:
            own.append(f"{options[_key(name)]}{equals}{value}")
            continue
        if not takes_fields:
            known = [option.removeprefix("--") for option in options.values()]
            hint = suggest(name.removeprefix("--"), known, f"see `{parser.prog} --help`")
            raise ValueError(f"{name} is not an option of `{parser.prog}`: {hint}")
        fields.append(f"{name}{equals}{value}")
        if not equals and rest and not rest[0].startswith("--"):
            fields.append(rest.pop(0))
    return own, fields


def _key(name: str) -> str:
    return name.replace("_", "-")


def _option_names(parser: argparse.ArgumentParser) -> Iterator[str]:
    return (name for name in parser._option_string_actions if name.startswith("--"))


def _sub_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return next((dict(action.choices) for action in actions), {})


def parse_fields(words: list[str]) -> dict[str, str]:
    """Parse configuration fields, such as `--a 1 --b=2` into {"a": "1", "b": "2"}.

    Args:
        words: Arguments that the parser of the command does not know.

    Returns:
        Values by field, as text; `BARE` for a field without a value. Of a field that is given
        several times, the last value counts.

    Raises:
        ValueError: A value has no field.
    """
    fields: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ValueError(
                f"argument {word!r} is not expected; write configuration fields as --FIELD VALUE"
            )
        name, has_value, value = word[2:].partition("=")
        if not has_value:
            value = BARE if not rest or rest[0].startswith("--") else rest.pop(0)
        name = name.replace("-", "_")
        fields[name] = value
    return fields


def parse_list(option: str, text: str, convert: Callable[[str], T], example: str) -> tuple[T, ...]:
    """Parse a comma-separated list of numbers.

    Args:
        option: Name of the option, for the error message.
        text: List as the user wrote it.
        convert: Conversion of one item; raises ValueError for an invalid one.
        example: A valid list, for the error message.

    Returns:
        Converted items; at least one.

    Raises:
        ValueError: An item is invalid.
    """
    try:
        return tuple(convert(word) for word in text.split(","))
    except ValueError:
        kind = "integers" if convert is int else "numbers"
        raise ValueError(
            f"{option} {text!r} must be a comma-separated list of {kind}, such as {example}"
        ) from None
