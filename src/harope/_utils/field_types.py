"""Types of the fields of dataclasses, among them unions whose members have a `kind`."""

from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints


def field_types(kind: Any) -> dict[str, Any]:
    """Return the types of the fields of a dataclass, with what annotates them.

    Args:
        kind: The dataclass.

    Returns:
        Types by field.
    """
    return get_type_hints(kind, include_extras=True)


def members_by_kind(hint: Any) -> dict[str, Any]:
    """Return the dataclasses with a `kind` that a field may have.

    Args:
        hint: Type of the field: a dataclass, or a union that may be annotated and have None.

    Returns:
        Classes by their `kind`; none for all other types.
    """
    if is_dataclass(hint):
        return {hint.kind: hint} if isinstance(hint, type) and hasattr(hint, "kind") else {}
    parts = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    return {kind: member for part in parts for kind, member in members_by_kind(part).items()}
