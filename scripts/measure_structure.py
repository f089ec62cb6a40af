"""Measure how large the package is and how many files its three main paths go through.

    python scripts/measure_structure.py [--hops]

Prints the lines and files of src/, the fraction of public functions and classes with parameters
whose docstring has an `Args:` section (overrides without a docstring are not counted), and, with
`--hops` (needs the `train` extra; half a minute), the number of files in which a function of harope
runs

- from `harope train scenes-dit --smoke` to the first `loss.backward()`,
- from `harope.install` to the end of the first forward pass of a timm ViT,
- from `harope.create_encoding` to rotated queries and keys.

Each path runs twice and is counted the second time, so that imports do not count.
docs/architecture.md has the results. With PYTHONPATH=OTHER/src it measures another checkout.
"""

import argparse
import ast
import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import harope

PACKAGE = Path(harope.__file__).parent
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def main() -> None:
    """Print the measures, and with `--hops` the files of the three paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hops", action="store_true", help="also run and count the three paths")
    options = parser.parse_args()
    files = sorted(PACKAGE.rglob("*.py"))
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    print(f"lines: {lines:,}")
    print(f"files: {len(files)}")
    definitions = [node for path in files for node in public_definitions(path)]
    described = {node.name for node in definitions if ast.get_docstring(node)}
    # An override inherits the docstring of the method that it overrides.
    definitions = [n for n in definitions if ast.get_docstring(n) or n.name not in described]
    documented = [has_args(node) for node in definitions]
    print(f"public docstrings with Args: {sum(documented) / len(documented):.0%}", end=" ")
    print(f"({sum(documented)} of {len(documented)} public functions and classes with parameters)")
    if options.hops:
        for title, path in PATHS.items():
            path()
            names = files_of(path)
            print(f"{title}: {len(names)} files")
            print("  " + " ".join(names))


def public_definitions(path: Path) -> Iterator[Definition]:
    """Yield the public functions, methods and classes of a file that take arguments.

    Args:
        path: Python file of the package.

    Yields:
        Functions, methods and classes in the order of the file.
    """
    if any(part.startswith("_") for part in path.relative_to(PACKAGE).with_suffix("").parts):
        return
    yield from _public(ast.parse(path.read_text(encoding="utf-8")))


def _public(parent: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    for node in parent.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            if _takes_arguments(node):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


def _takes_arguments(node: Definition) -> bool:
    """Whether a function, or a class by its own `__init__`, has parameters besides self and cls."""
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        return bool(inits) and _takes_arguments(inits[0])
    arguments = node.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    variable = arguments.vararg or arguments.kwarg
    return bool(variable or [name for name in names if name.arg not in ("self", "cls")])


def has_args(node: Definition) -> bool:
    """Return whether a docstring has a section of arguments.

    Args:
        node: Function, method or class.

    Returns:
        True if a line of the docstring is `Args:`.
    """
    return "Args:" in (ast.get_docstring(node) or "").splitlines()


def files_of(path: Callable[[], object]) -> list[str]:
    """Run a function and list the package's files in which functions ran, in order of entry.

    Args:
        path: Function to run.

    Returns:
        Paths relative to the package.
    """
    entered: dict[str, None] = {}

    def enter(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        # Every command's options are declared before one of them runs.
        if event == "call" and code.co_name not in ("<module>", "add_arguments"):
            with contextlib.suppress(ValueError):
                entered[Path(code.co_filename).relative_to(PACKAGE).as_posix()] = None

    sys.setprofile(enter)
    try:
        path()
    finally:
        sys.setprofile(None)
    return list(entered)


class _Reached(Exception):
    """Raised in place of the first backward pass."""


def train_to_backward() -> None:
    """Start a training on the command line and stop where it would call backward."""
    from accelerate import Accelerator

    from harope.cli.main import main as command

    def stop(self: Accelerator, loss: object, **options: object) -> None:
        raise _Reached

    backward, Accelerator.backward = Accelerator.backward, stop
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Reached):
            out = os.path.join(folder, "run")
            command(["train", "scenes-dit", "--smoke", "--quiet", "--out", out])
    finally:
        Accelerator.backward = backward


def install_to_forward() -> None:
    """Install HARoPE in a small ViT of timm and classify an image."""
    import timm
    import torch

    model = timm.create_model("vit_tiny_patch16_224", depth=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        harope.install(model, "harope")
    model(torch.randn(1, 3, 224, 224))


def create_to_rotated() -> None:
    """Create HARoPE and rotate queries and keys."""
    import torch

    encoding = harope.create_encoding("harope", num_heads=2, head_dim=16)
    q = k = torch.randn(1, 2, 16, 16)
    encoding(q, k, harope.grid_positions(4, 4))


PATHS: dict[str, Callable[[], None]] = {
    "command line to loss.backward()": train_to_backward,
    "install to forward": install_to_forward,
    "create_encoding to rotated q, k": create_to_rotated,
}


if __name__ == "__main__":
    main()
