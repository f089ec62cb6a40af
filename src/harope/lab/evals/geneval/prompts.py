"""GenEval's prompts: `prompts/evaluation_metadata.jsonl` of github.com/djghosh13/geneval."""

from pathlib import Path
from typing import Any

from harope._utils.json_files import parse_json
from harope._utils.text_files import read_text
from harope.lab.sampling.prompts import PromptRequest


def read_geneval(path: Path) -> tuple[PromptRequest, ...]:
    """Read the prompts of an `evaluation_metadata.jsonl`.

    Args:
        path: The file.

    Returns:
        One request per line, named by its line number from 0, as five digits.

    Raises:
        ValueError: Naming the file and the first line that GenEval's scorer could not read.
    """
    requests = []
    for number, line in enumerate(read_text(path).rstrip().split("\n"), start=1):
        metadata = parse_metadata(line, f"{path} line {number}")
        request = PromptRequest(
            name=f"{number - 1:05d}", prompt=metadata["prompt"], metadata=line.strip()
        )
        requests.append(request)
    return tuple(requests)


def parse_metadata(line: str, where: str) -> dict[str, Any]:
    """Parse and check the metadata of one prompt.

    Args:
        line: JSON object with `tag` and `prompt`, and optionally lists `include` and `exclude`.
        where: Position of the line, with which every error message begins.

    Returns:
        The metadata.

    Raises:
        ValueError: If GenEval's scorer could not read the line.
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
    """Check that each clause has a class, a count and, if any, a valid position.

    A position is [relation, number of an earlier clause].
    """
    if not isinstance(clauses, list):
        raise ValueError(f"{where} is {type(clauses).__name__}, not a list")
    for place, clause in enumerate(clauses):
        typed = isinstance(clause, dict) and isinstance(clause.get("count"), int)
        if not typed or not isinstance(clause.get("class"), str) or clause["count"] < 0:
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
