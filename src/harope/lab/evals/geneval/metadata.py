"""What GenEval asks of a picture: one line of its `evaluation_metadata.jsonl`."""

from typing import Any

from harope._utils.json_files import parse_json


def parse_metadata(line: str, where: str) -> dict[str, Any]:
    """The object in a line of JSON: tag, prompt, and what to include and exclude.

    Raises ValueError beginning with `where` for what the scorer could not read.
    """
    values = parse_json(line, where)
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {type(values).__name__}, not an object with tag and prompt")
    for name in ("tag", "prompt"):
        if not isinstance(values.get(name), str) or not values[name].strip():
            raise ValueError(f"{where}: {name} is {values.get(name)!r}, not a text")
    for name in ("include", "exclude"):
        _check_clauses(values.get(name, []), f"{where}: {name}")
    return values


def _check_clauses(clauses: Any, where: str) -> None:
    """Each names a class and a count; a position is [relation, number of an earlier clause]."""
    if not isinstance(clauses, list):
        raise ValueError(f"{where} is {type(clauses).__name__}, not a list")
    for place, clause in enumerate(clauses):
        typed = isinstance(clause, dict) and isinstance(clause.get("count"), int)
        if not typed or not isinstance(clause.get("class"), str):
            raise ValueError(f"{where}[{place}] is {clause!r}: it needs a class and a count")
        match clause.get("position"):
            case None:
                continue
            case [str(), int(target)] if 0 <= target < place:
                continue
        raise ValueError(
            f"{where}[{place}] has the position {clause['position']!r}: it must be a relation and "
            f"the number of an earlier clause"
        )
