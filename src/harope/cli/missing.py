"""Packages that are not installed: which extra of harope has them."""

import re
from importlib.metadata import PackageNotFoundError, requires

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}
"""Packages whose name at import is not that in the package index."""


def missing_package_advice(error: ModuleNotFoundError, command: str, extra: str) -> str:
    """Tell which package a command lacks, and how to install it.

    Args:
        error: What the import has raised.
        command: The command, such as `harope train`.
        extra: Extras of harope that the command needs, such as `train` or `train,diffusers`.

    Returns:
        One line.
    """
    package = (error.name or "").partition(".")[0]
    name = _DISTRIBUTIONS.get(package, package)
    holders = _extras_with(name)
    # What few runs need, such as diffusers for a training, is in another extra.
    chosen = extra if not holders or set(extra.split(",")) & set(holders) else holders[0]
    return f"{command} needs {name}: pip install 'harope[{chosen}]'"


def _extras_with(name: str) -> list[str]:
    """Return the extras that list a package, in the order of the package's metadata."""
    try:
        lines = requires("harope") or []
    except PackageNotFoundError:
        return []
    matches = (re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", line) for line in lines)
    found = [match.groups() for match in matches if match]
    return [extra for package, extra in found if _normalised(package) == _normalised(name)]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
