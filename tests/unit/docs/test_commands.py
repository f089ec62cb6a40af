"""Commands that pages show are valid: their options, fields, targets and files exist."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from harope.cli.main import build_parser, main
from harope.cli.parsing import parse_fields
from harope.lab.experiments.compare.arms import parse_arm
from harope.lab.recipes import get_recipe
from harope.lab.training.serialization import override

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?!python|text)\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LAUNCHER = "torchrun --nproc_per_node 8 -m harope "


def shown_commands(page: Path) -> list[str]:
    """Complete commands of a page, in blocks and within lines; `...` marks an incomplete one."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    rest = re.sub(r"\s*\n\s*", " ", BLOCK.sub("", text))
    commands = [part for line in [*lines, *INLINE.findall(rest)] for part in line.split(" && ")]
    commands = [command.partition("  #")[0].strip() for command in commands]
    return [command for command in commands if "..." not in command]


def harope_commands() -> list[str]:
    commands = [command for page in PAGES for command in shown_commands(page)]
    known = ("harope ", LAUNCHER)
    chosen = dict.fromkeys(command for command in commands if command.startswith(known))
    # `harope / axial` and the like are ratios and differences in tables.
    return [command for command in chosen if not re.match(r"harope [-/,] ", command)]


MENTION = re.compile(
    r"harope (?P<command>\w+( (scenes|classes|resolutions|distances|geneval|dpg))?)"
    r"(?P<option> --[\w-]+)?"
)
"""A command, or a tool of `harope evaluate`, or one of its options by name, without arguments."""


@pytest.mark.parametrize(
    "command", [command for command in harope_commands() if MENTION.fullmatch(command)]
)
def test_commands_and_options_that_are_mentioned_exist(command, capsys):
    mention = MENTION.fullmatch(command)
    assert mention is not None
    with pytest.raises(SystemExit, match="0"):
        build_parser().parse_args([*mention["command"].split(), "--help"])
    assert (mention["option"] or "").strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [command for command in harope_commands() if not MENTION.fullmatch(command)]
)
def test_commands_parse_and_their_fields_exist(command):
    words = shlex.split(command.removeprefix(LAUNCHER).removeprefix("harope "))
    if {"--help", "--version"} & set(words):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
        assert not code
        return
    options, rest = build_parser().parse_known_args(words)
    assert options.takes_fields or not rest
    if options.command in ("train", "compare", "plan") and options.recipe is not None:
        config = override(get_recipe(options.recipe).config(), parse_fields(rest))
        for arm in getattr(options, "arms", ()):
            parse_arm(arm, config)


def test_many_commands_are_shown():
    assert len(harope_commands()) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_targets_scripts_and_result_pages_exist(page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    results = importlib.import_module("scripts.results.__main__").PAGES
    targets = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {name for line in targets for name in line.split()}
    for command in shown_commands(page):
        if command.startswith("make "):
            assert command.split()[1] in targets, command
        elif command.startswith("python -m scripts.results "):
            assert command.split()[3] in results, command
        elif match := re.match(r"(?:PYTHONPATH=\S+ )?(?:python|bash) ([\w/]+\.(?:py|sh))", command):
            assert (ROOT / match[1]).exists(), command
