"""The command itself: versions, options before and after commands, warnings, completion."""

import logging
import subprocess
import sys
import warnings

import pytest

import harope
from harope.cli import encodings
from harope.cli.main import COMMANDS, main
from harope.cli.messages import one_line, warnings_as_lines
from harope.cli.parsers import Parser
from harope.cli.parsing import split_words


def test_versions(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"harope {harope.__version__} (torch ")
    assert f"Python {sys.version.split()[0]})" in shown


def test_without_a_command_the_help_is_shown(capsys):
    with pytest.raises(SystemExit, match="0"):
        main([])
    assert "To get started: harope demo" in capsys.readouterr().out


@pytest.mark.slow
def test_the_package_is_a_command():
    command = [sys.executable, "-m", "harope", "encodings"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "harope" in done.stdout


@pytest.mark.parametrize(
    "words", [["--debug", "train", "scene-dit"], ["train", "scene-dit", "--debug"]]
)
def test_debug_raises_the_error_anywhere(words):
    with pytest.raises(ValueError, match="'scene-dit' is unknown"):
        main(words)


@pytest.fixture
def seen(monkeypatch):
    """Options of `harope encodings`, which warns instead of printing."""
    given = []

    def run(options):
        given.append(options)
        warnings.warn("two\nlines", UserWarning, stacklevel=1)
        warnings.warn("two\nlines", UserWarning, stacklevel=1)

    monkeypatch.setattr(encodings, "run", run)
    return given


def test_common_options_may_stand_before_and_after_the_command(seen):
    assert main(["encodings"]) == 0
    assert main(["--quiet", "--log-level", "error", "encodings"]) == 0
    assert main(["encodings", "--quiet", "--log_level=error"]) == 0
    assert main(["--quiet", "encodings", "--log-level", "error"]) == 0
    assert [(item.quiet, item.log_level, item.debug) for item in seen] == [
        (False, "warning", False),
        *[(True, "error", False)] * 3,
    ]


def test_warnings_are_single_lines_and_not_repeated(seen, capsys):
    assert main(["encodings"]) == 0
    assert capsys.readouterr().err == "harope: warning: two lines\n"
    assert main(["encodings", "--quiet"]) == 0
    assert capsys.readouterr().err == "harope: warning: two lines\n"
    assert main(["encodings", "--log-level", "error"]) == 0
    assert capsys.readouterr().err == ""


def test_log_levels_apply_to_libraries_while_a_command_runs(monkeypatch, capsys):
    for variable in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        monkeypatch.setenv(variable, "error")
    logger, before = logging.getLogger("some.library"), logging.getLogger().level
    with warnings_as_lines("info"):
        logger.info("downloading")
        logger.debug("details")
    logger.info("later")
    assert capsys.readouterr().err == "harope: INFO: some.library: downloading\n"
    assert logging.getLogger().level == before


def test_errors_of_the_operating_system_name_the_file():
    assert one_line(FileNotFoundError(2, "No such file", "a.txt")) == (
        "a.txt does not exist; check the path"
    )
    assert one_line(OSError(28, "No space left on device", "b")) == "b: No space left on device"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("a\n  b\x1b")) == r"a b\x1b"
    assert len(one_line(ValueError("x" * 5000))) < 1100


def test_options_are_spelled_as_the_parser_has_them():
    parser = Parser(prog="harope test")
    parser.add_argument("--batch-size")
    words = ["a", "--batch_size", "3", "--batch_size=4", "--", "--other"]
    own, fields = split_words(words, parser, takes_fields=False)
    assert own == ["a", "--batch-size", "3", "--batch-size=4", "--", "--other"]
    assert fields == []


def test_fields_take_one_value_each_and_leave_the_arguments():
    parser = Parser(prog="harope test")
    parser.add_argument("recipe")
    parser.add_argument("--out")
    words = ["--lr", "1", "scenes", "--out", "run", "--compile", "--mean", "-0.5", "--a=b"]
    own, fields = split_words(words, parser, takes_fields=True)
    assert own == ["scenes", "--out", "run"]
    assert fields == ["--lr", "1", "--compile", "--mean", "-0.5", "--a=b"]


def test_an_unknown_option_is_answered_with_the_nearest():
    parser = Parser(prog="harope test")
    parser.add_argument("--weights")
    with pytest.raises(ValueError, match=r"--wieghts is not an option of .* mean 'weights'\?"):
        split_words(["--wieghts", "x"], parser, takes_fields=False)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_have_all_commands(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    for module in COMMANDS:
        assert module.__name__.rpartition(".")[2] in shown
    assert "--scenes-prompts" in shown or "scenes-prompts" in shown
