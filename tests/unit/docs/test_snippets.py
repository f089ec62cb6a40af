"""The documentation runs: every python block of every page, and what the pages state in tables."""

import re
from pathlib import Path
from pkgutil import resolve_name
from textwrap import dedent

import pytest
import torch

import harope
from harope.rope import encoding_config

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
METHODS = ROOT / "docs" / "methods.md"
BLOCK = re.compile(r"^( *)```python *\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^print\(.*\)  # (.*)$", re.MULTILINE)


def python_blocks(page):
    """Code and, for tracebacks, the number of lines before it."""
    text = page.read_text(encoding="utf-8")
    return [(dedent(m[2]), text[: m.start(2)].count("\n")) for m in BLOCK.finditer(text)]


def table_rows(page, heading):
    """Cells of the rows, keyed by name, of the first table under a heading."""
    section = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", section, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


# Pages say that installing an encoding warns where the model's output changes.
@pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")
@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda p: p.stem)
def test_python_blocks_run_and_print_what_they_show(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    with torch.random.fork_rng(devices=[]):
        for code, offset in python_blocks(page):
            exec(compile("\n" * offset + code, str(page), "exec"), namespace)
            printed = capsys.readouterr().out.splitlines()
            missing = [line for line in SHOWN.findall(code) if line not in printed]
            assert not missing, f"{page.name} shows {missing} but printed {printed}"


def test_methods_page_has_blocks_to_run():
    assert len(python_blocks(METHODS)) > 5


@pytest.mark.parametrize("page", ["methods", "vocabulary"])
def test_code_that_a_page_names_exists(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    names = set(re.findall(r"\bharope(?:\.[A-Za-z_]\w*)+", text))
    assert len(names) > 5
    for name in names:
        resolve_name(name)


def test_table_of_presets_is_that_of_the_code():
    rows = table_rows(METHODS, "Presets")
    assert list(rows) == harope.list_encodings()
    for name, (frequencies, basis, _, theta, added, _) in rows.items():
        config = encoding_config(name)
        assert re.split("[ ,]", frequencies)[0] == config.frequencies
        assert ("learned" in frequencies) == config.learned_frequencies
        assert re.split("[ ,]", basis)[0] == config.basis
        assert f"{config.positions} positions" in frequencies or config.positions == "index"
        assert ("Cayley" in basis) == (config.orthogonal_map == "cayley")
        assert added == config.embedding
        assert not theta or float(theta) == config.theta


def test_table_of_costs_counts_the_parameters():
    dit = {"num_heads": 12, "head_dim": 64, "num_axes": 2}
    flux = {"num_heads": 24, "head_dim": 128, "num_axes": 3}
    rows = table_rows(METHODS, "Cost in parameters")
    assert set(rows) == set(harope.list_encodings()) - {"ape-learned"}
    for name, (_, *stated) in rows.items():
        axial = encoding_config(name).frequencies == "axial" and name != "partial"
        axes = {"axes_dim": (16, 56, 56)} if axial else {}
        for cell, layers, shape in zip(stated, (12, 57), (dit, {**flux, **axes}), strict=True):
            if cell == "-":
                with pytest.raises(ValueError, match="axes"):
                    harope.create_encoding(name, **shape)
                continue
            encoding = harope.create_encoding(name, **shape)
            count = layers * sum(parameter.numel() for parameter in encoding.parameters())
            assert int(cell.replace(",", "")) == count
