"""What import-linter does not check: `import harope` is light, and the core needs torch alone.

Which folder may import which is in pyproject.toml, under [tool.importlinter].
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "harope"
FOLDERS = sorted(path.parent for path in SOURCE.rglob("*.py") if path.name == "__init__.py")
HEAVY = {
    "accelerate",
    "datasets",
    "diffusers",
    "huggingface_hub",
    "matplotlib",
    "pandas",
    "peft",
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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def loaded_by(code: str) -> set[str]:
    """Full names of the modules that code loads in a fresh process, beyond what torch loads."""
    script = f"""
import sys, torch
before = set(sys.modules)
{code}
print(*(set(sys.modules) - before))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_folder_has_an_init_file():
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    assert folders == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_every_folder_says_what_it_is(folder):
    text = (folder / "__init__.py").read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))


def test_imports_are_absolute():
    relative = [
        f"{path.relative_to(SOURCE)}: {module}"
        for path in SOURCE.rglob("*.py")
        for module in imports_of(path)
        if module.startswith(".")
    ]
    assert relative == []


def names_from_the_top(path: Path) -> Iterator[str]:
    """What a file takes from `harope` itself rather than from one of its folders."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "harope":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name == "harope")


def test_modules_do_not_go_through_the_top():
    """`from harope import name` would hide from readers and import-linter which folder is meant."""
    for path in SOURCE.rglob("*.py"):
        names = set(names_from_the_top(path)) - {"__version__"}
        assert not names, f"{path.relative_to(SOURCE)} takes {names} from harope"


def test_the_core_needs_torch_alone():
    allowed = {"harope", "torch", "numpy", "jaxtyping", *sys.stdlib_module_names}
    core = SOURCE / "rope"
    for path in core.rglob("*.py"):
        triton = {"triton"} if path.is_relative_to(core / "_fast" / "triton") else set()
        foreign = {module.split(".")[0] for module in imports_of(path)} - allowed - triton
        assert not foreign, f"{path.relative_to(SOURCE)} imports {foreign}"


def test_importing_harope_loads_nothing_heavier_than_torch():
    loaded = loaded_by("import harope")
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()
    assert "harope.rope" in loaded
    lazy = ("harope.models", "harope.integrations", "harope.diffusion", "harope.lab", "harope.cli")
    assert not [name for name in loaded if name.startswith(lazy)]


@pytest.mark.parametrize("name", ["DiT", "install"])
def test_models_and_integrations_load_nothing_heavier_than_torch(name):
    loaded = loaded_by(f"from harope import {name}")
    assert {module.split(".")[0] for module in loaded} & HEAVY == set()
    assert not [module for module in loaded if module.startswith(("harope.lab", "harope.cli"))]
