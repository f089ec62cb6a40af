"""Configurations to JSON and back, and the overrides of the command line."""

import json
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harope.lab.training.config import RunConfig, TrainConfig
from harope.lab.training.registry import CONFIGS
from harope.rope.presets import options_from_file, options_to_store

_ADAPTERS: dict[type[RunConfig], TypeAdapter] = {
    kind: TypeAdapter(kind) for kind in CONFIGS.values()
}


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Plain values for JSON."""
    return _ADAPTERS[type(config)].dump_python(config, mode="json")


def to_json(config: RunConfig) -> dict[str, Any]:
    """Plain values for a file: as `to_dict`, with the encoding's options spelled out."""
    values = to_dict(config)
    model = values["model"]
    model["encoding_options"] = options_to_store(model["encoding"], model["encoding_options"])
    return values


def from_json(values: dict[str, Any]) -> RunConfig:
    """The configuration in a file, whichever version of harope wrote it.

    Raises ValueError as `from_dict` does.
    """
    model = values.get("model")
    if isinstance(model, dict) and isinstance(model.get("encoding"), str):
        options = options_from_file(model["encoding"], model.get("encoding_options") or {})
        values = values | {"model": model | {"encoding_options": options}}
    return from_dict(values)


def from_dict(values: dict[str, Any]) -> RunConfig:
    """The configuration of `task` with these values, text read as the field's type.

    Raises ValueError naming the field, what it holds and what is wrong.
    """
    task = values.get("task", TrainConfig.task)
    if task not in CONFIGS:
        raise ValueError(f"task {task!r} is unknown: use one of {', '.join(CONFIGS)}")
    try:
        config = _ADAPTERS[CONFIGS[task]].validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "configuration"
        message = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise ValueError(f"{where}: {message}{got}") from None
    _check_known(values, to_dict(config), "")
    return config


def override(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    """The configuration with fields replaced, by path ("optimizer.lr") or unique name ("lr").

    Naming another `kind` of a part that has one (`data.kind`, `diffusion.kind`) starts that part
    anew from its defaults. Raises ValueError for an unknown or ambiguous field, with the nearest.
    """
    values = to_dict(config)
    paths = {_full_path(values, name): value for name, value in changes.items()}
    for part in _parts_with_kinds(values):
        if paths.get(f"{part}.kind", values[part]["kind"]) != values[part]["kind"]:
            values[part] = {}
    for path, value in paths.items():
        *parents, leaf = path.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        place[leaf] = _read(value)
    return from_dict(values)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by path ("optimizer.lr"); the options of an encoding are one leaf."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, dict) and name != "encoding_options"
        leaves |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return leaves


def _parts_with_kinds(values: dict[str, Any]) -> list[str]:
    return [name for name, part in values.items() if isinstance(part, dict) and "kind" in part]


def _full_path(values: dict[str, Any], name: str) -> str:
    name = name.replace("-", "_")
    paths = list(flat(values))
    if name in paths or name.rpartition(".")[0] in _parts_with_kinds(values):
        return name
    _, dot, option = name.partition("encoding_options.")
    if dot and option:
        return f"model.encoding_options.{option}"
    ends = [path for path in paths if path.rpartition(".")[2] == name]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ValueError(f"field {name!r} is ambiguous: use one of {', '.join(ends)}")
    leaves = {path.rpartition(".")[2]: path for path in paths} | {path: path for path in paths}
    match = get_close_matches(name, leaves, n=1)
    mend = f"did you mean {match[0]!r}?" if match else "see `harope train RECIPE --dry-run`"
    raise ValueError(f"field {name!r} is unknown: {mend}")


def _read(value: Any) -> Any:
    """Text that is JSON becomes its value: numbers, lists, null; other text stays."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return {"None": None, "True": True, "False": False}.get(value, value)


def _check_known(given: dict[str, Any], known: dict[str, Any], prefix: str) -> None:
    for name, value in given.items():
        if name not in known:
            match = get_close_matches(name, known, n=1)
            mend = f"did you mean {prefix}{match[0]}?" if match else f"known: {', '.join(known)}"
            raise ValueError(f"field {prefix}{name!r} is unknown: {mend}")
        if isinstance(value, dict) and name != "encoding_options":
            _check_known(value, known[name], f"{prefix}{name}.")
