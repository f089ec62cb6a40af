"""The architecture: imports run downwards, and `import harope` is light."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "harope"

LEVELS = {
    "rope": 0,
    "diffusion": 0,
    "scenes": 0,
    "data": 1,
    "text": 1,
    "models": 1,
    "evaluation": 1,
    "hosts": 2,
    "training": 3,
    "generation": 4,
    "recipes": 5,
    "report": 5,
    "demo": 6,
    "bench": 6,
    "compare": 6,
    "cli": 7,
}
HEAVY = {
    "accelerate",
    "datasets",
    "diffusers",
    "matplotlib",
    "pandas",
    "PIL",
    "pyarrow",
    "pydantic",
    "scipy",
    "sklearn",
    "tensorboard",
    "timm",
    "torch_fidelity",
    "torchvision",
    "tqdm",
    "transformers",
}


def imports_of(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield str(node.module)
            if node.module == "harope":
                yield from (f"harope.{alias.name}" for alias in node.names)


def package_of(module: str) -> str | None:
    """The package of ours that a module belongs to."""
    match = re.match(r"harope\.(\w+)", module)
    return match[1] if match and match[1] in LEVELS else None


def files(package: str) -> list[Path]:
    return sorted((SOURCE / package).rglob("*.py"))


def test_every_package_has_a_level():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(LEVELS)


def test_the_levels_are_those_of_the_architecture_page():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", page, flags=re.MULTILINE)
    written = {name: int(level) for level, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    assert written == LEVELS


@pytest.mark.parametrize("package", LEVELS)
def test_imports_run_downwards(package):
    for path in files(package):
        for module in imports_of(path):
            other = package_of(module)
            if other is not None and other != package:
                assert LEVELS[other] < LEVELS[package], f"{path} imports {module}"


@pytest.mark.parametrize("package", LEVELS)
def test_packages_do_not_go_through_the_top(package):
    """`from harope import name` would hide which package is meant."""
    for path in files(package):
        for module in imports_of(path):
            top = module.split(".")[:2]
            assert top[0] != "harope" or package_of(module) or module == "harope.__version__"


def test_the_rotary_core_needs_torch_alone():
    allowed = {"harope", "torch", "numpy", "jaxtyping", *sys.stdlib_module_names}
    for path in files("rope"):
        own = allowed | {"triton"} if path.parent.name == "kernels" else allowed
        assert {module.split(".")[0] for module in imports_of(path)} <= own


def test_importing_harope_and_its_models_loads_nothing_heavier_than_torch():
    code = """
import sys, torch
before = set(sys.modules)
import harope
assert "harope.models" not in sys.modules
from harope import DiT
print(*{name.split(".")[0] for name in set(sys.modules) - before})
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()
