"""A stand-in for tqdm on machines without it.

`harope.lab.training` imports it when it is imported, but only to show progress, which a check on a
GPU can do without. Importing this module installs the stand-in, so it must be imported before
`harope.lab`. TensorBoard and scikit-learn need none: they are imported when they are used.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


class Silent:
    """Progress bar that accepts every call and does nothing.

    Args:
        iterable: What a progress bar iterates over. All other arguments are ignored.
    """

    def __init__(self, iterable: Any = (), *_: Any, **__: Any) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def is_missing(name: str) -> bool:
    """Return whether a package is not installed.

    Args:
        name: Name to import it by.

    Returns:
        True if it cannot be found.
    """
    try:
        return importlib.util.find_spec(name) is None
    except ImportError:
        return True


def install_stand_ins() -> tuple[str, ...]:
    """Put stand-ins for missing packages into `sys.modules`.

    Returns:
        Names of the replaced modules.
    """
    installed: tuple[str, ...] = ()
    if is_missing("tqdm"):
        installed += (_install("tqdm", tqdm=Silent), _install("tqdm.auto", tqdm=Silent))
    return installed


def _install(name: str, **attributes: Any) -> str:
    module = ModuleType(name)
    vars(module).update(attributes)
    # `find_spec` raises ValueError for a loaded module without a spec.
    module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    sys.modules[name] = module
    return name


STAND_INS = install_stand_ins()
"""Names of the modules that were replaced in this process."""
