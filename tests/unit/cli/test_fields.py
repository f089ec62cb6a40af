import pytest

from harope.cli.main import COMMANDS, build_parser
from harope.cli.parsing import BARE, parse_fields


def test_fields_are_written_with_a_space_or_an_equals_sign():
    assert parse_fields(["--a", "1", "--b.c=-2", "--d=x=y"]) == {"a": "1", "b.c": "-2", "d": "x=y"}


def test_a_negative_number_is_a_value():
    assert parse_fields(["--logit_mean", "-0.5"]) == {"logit_mean": "-0.5"}


def test_a_field_without_a_value_is_a_flag():
    assert parse_fields(["--a", "--b", "1"]) == {"a": BARE, "b": "1"}
    assert parse_fields(["--a"])["a"] is BARE
    assert parse_fields(["--a=true"])["a"] is not BARE


def test_the_last_value_of_a_field_counts():
    assert parse_fields(["--batch-size", "1", "--batch_size", "2"]) == {"batch_size": "2"}


def test_a_lone_word_is_refused():
    with pytest.raises(ValueError, match="'1' is not expected"):
        parse_fields(["1"])


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_has_help_with_an_example(module, capsys):
    name = module.__name__.rpartition(".")[2]
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args([name, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert module.EXAMPLE in shown
    assert module.EXAMPLE.startswith(f"harope {name}")
