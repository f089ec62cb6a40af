"""Packages that are not installed: which extra of harope has them."""

import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, requires

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}
"""Packages whose name at import is not that in the package index."""


def missing_package_advice(error: ModuleNotFoundError, command: str, extra: str) -> str:
    """Tell which package a command is missing, and how to install it.

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
    """Return the extras that list a package, smallest first, then those that have such an extra."""
    try:
        lines = requires("harope") or []
    except PackageNotFoundError:
        return []
    pattern = r"([\w.-]+)(?:\[([\w,-]+)\])?.*extra == ['\"]([\w-]+)['\"]"
    matches = [match.groups() for line in lines if (match := re.match(pattern, line))]
    sizes = Counter(extra for *_, extra in matches)
    found = [extra for package, _, extra in matches if _normalised(package) == _normalised(name)]
    found.sort(key=lambda extra: sizes[extra])
    # Extras that consist of others, such as bench.
    for package, parts, extra in matches:
        if package == "harope" and parts is not None and set(parts.split(",")) & set(found):
            found.append(extra)
    return found


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
