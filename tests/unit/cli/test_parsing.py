"""Text of the command line as values, and defaults in help texts."""

import argparse

import pytest

from harope.cli.main import COMMANDS, build_parser
from harope.cli.parsing import parse_list


def test_lists_are_separated_by_commas():
    assert parse_list("--seeds", "0,1,2", int, "0,1,2") == (0, 1, 2)
    assert parse_list("--rates", "0.5", float, "0.5,2") == (0.5,)


@pytest.mark.parametrize("text", ["", "a", "1,", "1.5,2"])
def test_an_invalid_item_is_an_error_with_an_example(text):
    words = f"--seeds '{text}' must be a comma-separated list of integers, such as 0,1,2"
    with pytest.raises(ValueError, match=words):
        parse_list("--seeds", text, int, "0,1,2")


def test_numbers_are_distinguished_from_integers():
    with pytest.raises(ValueError, match=r"a comma-separated list of numbers, such as 0\.5"):
        parse_list("--rates", "half", float, "0.5,2")


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (action,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return action.choices


@pytest.mark.parametrize("module", COMMANDS)
def test_help_shows_each_default_once(module):
    parser = subparsers()[module.__name__.rpartition(".")[2]]
    text = " ".join(parser.format_help().split())
    assert "default: None" not in text
    assert "default: False" not in text
    assert "default: []" not in text
    for action in parser._actions:
        assert action.help, action.dest
        number_or_text = isinstance(action.default, (str, int, float))
        if number_or_text and action.default not in (True, False, argparse.SUPPRESS):
            assert f"(default: {action.default})" in text
            assert "(default" not in action.help
