"""Run configurations as JSON, and the overrides of the command line."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import reduce
from operator import or_
from typing import Annotated, Any, get_args, get_origin

from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from harope._utils.field_types import field_types, members_by_kind
from harope._utils.json_files import first_error, validate
from harope._utils.suggestions import closest, suggest
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks import TASKS
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.rope import EncodingConfig
from harope.rope.presets import options_from_file, options_to_store

_RENAMED = {"query_key_rate": "qk_lr_multiplier"}
"""Fields that older versions stored under another name; files may have either."""

_SIZES = {"image_size"}
"""Fields that describe the input of the model, and so are kept if a part gets another kind."""


def _task_of(config: Any) -> str:
    """Return the task of a configuration or of its JSON, where the first task has no name."""
    found = config.get("task") if isinstance(config, dict) else getattr(config, "task", None)
    return TrainConfig.task if found is None else str(found)


_CONFIGS: dict[str, Any] = {task.config_type.task: task.config_type for task in TASKS}
_UNION: Any = reduce(or_, (Annotated[config, Tag(task)] for task, config in _CONFIGS.items()))
_ADAPTER: TypeAdapter[RunConfig] = TypeAdapter(Annotated[_UNION, Discriminator(_task_of)])


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Convert a configuration to JSON values.

    Args:
        config: Configuration of a training.

    Returns:
        The fields by name; nested parts are dicts.
    """
    return _ADAPTER.dump_python(config, mode="json")


def to_json(config: RunConfig) -> dict[str, Any]:
    """Convert a configuration to JSON values for a file.

    Unlike `to_dict`, it writes out those options of the encoding whose defaults differ between
    versions.

    Args:
        config: Configuration of a training.

    Returns:
        The fields by name; nested parts are dicts.
    """
    values = to_dict(config)
    model = values["model"]
    model["encoding_options"] = options_to_store(model["encoding"], model["encoding_options"])
    return values


def from_json(values: dict[str, Any]) -> RunConfig:
    """Create a configuration from the JSON values of a file, whichever version of harope wrote it.

    Args:
        values: The fields, as read from the file.

    Returns:
        The configuration.

    Raises:
        ValueError: As `from_dict` says.
    """
    values = dict(values)
    model, optimizer = values.get("model"), values.get("optimizer")
    if isinstance(model, dict) and isinstance(model.get("encoding"), str):
        options = model.get("encoding_options") or {}
        if isinstance(options, dict):
            options = options_from_file(model["encoding"], options)
        values["model"] = model | {"encoding_options": options}
    if isinstance(optimizer, dict):
        values["optimizer"] = {_RENAMED.get(name, name): v for name, v in optimizer.items()}
    return from_dict(values)


def from_dict(values: dict[str, Any]) -> RunConfig:
    """Create a configuration from JSON values; text is converted to the type of its field.

    Args:
        values: The fields. Without `task`, they configure a class-conditional training.

    Returns:
        The configuration.

    Raises:
        ValueError: If a field is missing, unknown or of another type, naming the field, its value
            and what is expected; or if the values do not go together.
    """
    values = dict(values)
    task = _task_of(values)
    if task not in _CONFIGS:
        raise ValueError(f"task {task!r} is unknown: use one of {', '.join(_CONFIGS)}")
    if task == TrainConfig.task:
        values.pop("task", None)
    try:
        config = _ADAPTER.validate_python(values)
    except ValidationError as error:
        # The first part of the path to a field is the task.
        raise ValueError(first_error(error, skip=1)) from None
    _check_known(values, config)
    return config


def override(config: RunConfig, *changes: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with some fields replaced.

    Args:
        config: The configuration.
        changes: Values by path (`optimizer.lr`) or by name where it is unique (`lr`); later ones
            take precedence. Text is converted to the type of the field; lists are written as JSON
            or as `0.9,0.95`. Another `kind` of a part that has one (`data.kind`, `diffusion.kind`)
            starts that part from its defaults, except for the size of images.

    Returns:
        A new configuration.

    Raises:
        ValueError: If a field is unknown or ambiguous, suggesting others; if a value does not fit
            its field; or if the values do not go together.
    """
    paths = {_full_path(config, name): value for given in changes for name, value in given.items()}
    tree = _Changes()
    for path, value in paths.items():
        parent, _, leaf = path.rpartition(".")
        if parent in paths:
            raise ValueError(f"fields {parent!r} and {path!r} are both given: give one of them")
        place = tree
        for name in parent.split(".") if parent else ():
            place = place.setdefault(name, _Changes())
        place[leaf] = value
    return _replaced(config, tree, "")


def flat(
    values: dict[str, Any], prefix: str = "", *, divide_options: bool = False
) -> dict[str, Any]:
    """Return the leaves of JSON values by path (`optimizer.lr`).

    Args:
        values: JSON values, nested by part.
        prefix: Path before the names, with its final dot.
        divide_options: Whether each option of an encoding is a leaf, and not all of them one.

    Returns:
        The leaves by path.
    """
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and (divide_options or name != "encoding_options"):
            leaves |= flat(value, f"{path}.", divide_options=divide_options)
        else:
            leaves[path] = value
    return leaves


class _Changes(dict[str, Any]):
    """New values of one part of a configuration by field; nested parts have their own."""


def _replaced(part: Any, changes: _Changes, path: str) -> Any:
    """Return one part of a configuration with its changes, nested parts first."""
    values = {}
    for name, change in changes.items():
        where = _join(path, name)
        _check_field(type(part), name, path)
        current, hint = getattr(part, name), field_types(type(part))[name]
        if not isinstance(change, _Changes):
            values[name] = _leaf(change, hint, where)
        elif isinstance(current, dict):
            values[name] = current | {
                option: _encoding_option(option, value, _join(where, option))
                for option, value in change.items()
            }
        elif current is None and "kind" not in change:
            raise ValueError(f"{where}.kind is missing: {where} is None, so give its kind")
        elif "kind" in change and (current is None or change["kind"] != current.kind):
            values[name] = _created(_member(hint, change["kind"], where), change, where, current)
        else:
            values[name] = _replaced(current, change, where)
    return _checked(path, lambda: replace(part, **values))


def _created(kind: type, changes: _Changes, path: str, former: Any) -> Any:
    """Return a part of another kind: its defaults with the sizes of the former and the changes."""
    hints, known = field_types(kind), {item.name for item in fields(kind)}
    values = {name: getattr(former, name) for name in _SIZES & known if hasattr(former, name)}
    for name, value in changes.items():
        _check_field(kind, name, path)
        values[name] = _leaf(value, hints[name], _join(path, name))
    for item in fields(kind):
        required = item.default is MISSING and item.default_factory is MISSING
        if required and item.name not in values:
            raise ValueError(f"{_join(path, item.name)} is missing: {changes['kind']!r} needs it")
    return _checked(path, lambda: kind(**values))


def _member(hint: Any, kind: Any, path: str) -> type:
    """Return the class of a discriminated union that has this `kind`."""
    kinds = members_by_kind(hint)
    if kind not in kinds:
        raise ValueError(f"{path}.kind {kind!r} is unknown: {suggest(str(kind), kinds)}")
    return kinds[kind]


def _encoding_option(name: str, value: Any, path: str) -> Any:
    """Return the value of an option; names and numbers are checked by the model's configuration."""
    parsed, hint = _parsed(value), field_types(EncodingConfig).get(name)
    return _leaf(value, hint, path) if isinstance(parsed, str) and hint is not None else parsed


def _leaf(value: Any, hint: Any, path: str) -> Any:
    """Return the value as the type of its field, in the first reading of a text that fits."""
    first: ValueError | None = None
    for reading in _readings(value, hint):
        try:
            return validate(reading, hint, path)
        except ValueError as error:
            first = first or error
    assert first is not None
    raise first


def _readings(value: Any, hint: Any) -> Iterator[Any]:
    """Yield what a text may mean: a JSON value, the items of a list, or just the text."""
    parsed, types = _parsed(value), (hint, *get_args(hint))
    # As integers, true and false would be 1 and 0; as text, they are refused.
    if isinstance(parsed, bool) and bool not in types:
        yield str(value)
    elif not isinstance(parsed, str):
        yield parsed
    if isinstance(value, str):
        if not isinstance(parsed, list) and any(get_origin(item) is tuple for item in types):
            if parsed is None:
                yield []
            yield [item.strip() for item in value.split(",")]
        yield value


def _parsed(value: Any) -> Any:
    """Return the JSON value of a text: a number, a list, null; other text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return {"None": None, "none": None, "True": True, "False": False}.get(value, value)


def _full_path(config: RunConfig, name: str) -> str:
    """Return the path of a field that is given by path or by unique name."""
    name = name.replace("-", "_")
    parent, _, last = name.rpartition(".")
    if last in _RENAMED:
        raise ValueError(f"field {name!r} has a new name: use {_join(parent, _RENAMED[last])!r}")
    paths = list(_leaves(config))
    # Fields of another kind are checked when that kind is known.
    if name in paths or members_by_kind(_hint(config, parent)):
        return name
    # A part that may be None can be set to None.
    if type(None) in get_args(_hint(config, name)):
        return name
    _, dot, option = name.partition("encoding_options.")
    if dot and option:
        return f"model.encoding_options.{option}"
    ends = [path for path in paths if path.rpartition(".")[2] == name]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ValueError(f"field {name!r} is ambiguous: use one of {', '.join(ends)}")
    known = [path.rpartition(".")[2] for path in paths] + paths
    hint = suggest(name, known, "see `harope train RECIPE --help`")
    raise ValueError(f"field {name!r} is unknown: {hint}")


def _leaves(part: Any, prefix: str = "") -> Iterator[str]:
    """Yield the paths of all fields that are no parts themselves."""
    for item in fields(part):
        value, path = getattr(part, item.name), f"{prefix}{item.name}"
        if is_dataclass(value):
            yield from _leaves(value, f"{path}.")
        else:
            yield path


def _check_known(given: dict[str, Any], part: Any, path: str = "") -> None:
    """Raise ValueError for a given field that the configuration does not have."""
    for name, value in given.items():
        _check_field(type(part), name, path)
        if is_dataclass(getattr(part, name)) and isinstance(value, dict):
            _check_known(value, getattr(part, name), _join(path, name))


def _check_field(kind: Any, name: str, path: str) -> None:
    known = [item.name for item in fields(kind)]
    if name not in known:
        match = closest(name, known)
        hint = f"use one of {', '.join(known)}"
        if match:
            hint = f"did you mean {_join(path, match)!r}?"
        elif "kind" in known:
            hint = f"{hint}, or another {_join(path, 'kind')} (see `harope train RECIPE --help`)"
        raise ValueError(f"field {_join(path, name)!r} is unknown: {hint}")


def _checked(path: str, create: Callable[[], Any]) -> Any:
    """Return what `create` returns; its errors name the part of the configuration."""
    try:
        return create()
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from None


def _hint(config: RunConfig, name: str) -> Any:
    return field_types(type(config)).get(name)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
