"""Recognising objects of other libraries without importing these."""


def is_a(value: object, *names: str) -> bool:
    """Return whether the class of an object is, or derives from, one of the named classes.

    The classes are compared by name, so that their libraries need not be imported.

    Args:
        value: Any object.
        names: Paths of classes, `package.module.Class`.
    """
    own = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(value).__mro__}
    return not own.isdisjoint(names)
