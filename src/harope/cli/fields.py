"""Help on the configuration fields of a command, read from the configurations themselves."""

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
)

from harope._utils.field_types import field_types, members_by_kind
from harope._utils.untrusted import printable
from harope.cli.parsing import BARE, parse_fields

if TYPE_CHECKING:
    from harope.lab.training.task import RunConfig

_WIDTH = 96
_OPTIONS = "encoding_options"
_NAMES = {bool: "true|false", int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", Any: "VALUE"}


@dataclass(frozen=True)
class FieldHelp:
    """What a user must know of one configuration field."""

    path: str
    """Name with the parts before it, such as `optimizer.lr`."""
    hint: Any
    """Type of its values."""
    default: Any
    """Value in the recipe; MISSING for a field that must be given."""
    text: str
    """Docstring of the field."""

    @property
    def takes_flag(self) -> bool:
        """Whether the field can be given without a value."""
        return bool in (self.hint, *get_args(self.hint))


def field_help(config: "RunConfig", kinds: Mapping[str, str]) -> dict[str, list[FieldHelp]]:
    """Describe all fields of a configuration in groups.

    Args:
        config: Configuration whose values are the defaults.
        kinds: Other kinds of parts by path, such as {"data": "folder"}; their defaults are those of
            the kind.

    Returns:
        Descriptions by title of the group: one group per part of the configuration, then the other
        fields, then those that a resumed run may change.

    Raises:
        ValueError: If a part has no such kind.
    """
    groups: dict[str, list[FieldHelp]] = {}
    training: list[FieldHelp] = []
    reporting: list[FieldHelp] = []
    # What all trainings share comes last, such as the optimizer.
    shared = {item.name for item in fields(type(config).__mro__[1])}
    for item in sorted(fields(config), key=lambda item: item.name in shared):
        part, hint = getattr(config, item.name), field_types(type(config))[item.name]
        text = field_docs(type(config)).get(item.name, "")
        if is_dataclass(part) or members_by_kind(hint):
            title = f"{item.name}: {text.rstrip('.')}"
            groups[title] = list(_part_help(item.name, part, hint, kinds.get(item.name)))
        elif item.name not in ("task", "recipe"):
            group = reporting if item.name in config.REPORTING else training
            group.append(FieldHelp(item.name, hint, part, text))
    groups["training"] = training
    groups["training, also when a run is resumed"] = reporting
    return groups


def changed_config(
    config: "RunConfig", words: list[str], changes: Mapping[str, Any] | None = None
) -> "RunConfig":
    """Return a configuration with the fields of the command line.

    Args:
        config: The configuration.
        words: Words of the command line that are fields.
        changes: Values by path, which the command line takes precedence over.

    Returns:
        A new configuration.

    Raises:
        ValueError: If a field is unknown, ambiguous or not a flag, or the values do not fit.
    """
    from harope.lab.training.serialization import override

    given = parse_fields(words)
    _check_flags(config, given, _kinds({**(changes or {}), **given}))
    return override(config, dict(changes or {}), given)


def print_recipe_help(command: str, recipe: str, words: list[str]) -> None:
    """Print all fields of a recipe.

    Args:
        command: The command that takes the fields, such as `harope train`.
        recipe: Name of the recipe.
        words: Words of the command line that are fields; another `kind` of a part selects the
            fields that are shown.

    Raises:
        ValueError: If the recipe or a kind is unknown.
    """
    from harope.lab.recipes import get_recipe

    found, kinds = get_recipe(recipe), _kinds(parse_fields(words))
    print(f"usage: {command} {found.name} [--FIELD VALUE ...]\n\n{found.summary}\n")
    print(
        f"All fields, with their values in this recipe. The last part of a name suffices where it "
        f"is unique\n(--lr, --width); dashes and underscores are equal; lists are written as "
        f"0.9,0.95; a switch needs no\n`true`. Options of the command: `{command} --help`.\n"
    )
    print(format_field_help(field_help(found.config(), kinds)))


def format_field_help(groups: dict[str, list[FieldHelp]]) -> str:
    """Format descriptions of fields for a terminal.

    Args:
        groups: Descriptions by title.

    Returns:
        Lines of at most 96 characters.
    """
    lines = []
    for title, items in groups.items():
        lines += [title]
        for item in items:
            lines += [f"  --{item.path} {type_name(item.hint)}{_default(item.default)}"]
            lines += textwrap.wrap(
                item.text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
        lines += [""]
    return "\n".join(lines).rstrip()


def type_name(hint: Any) -> str:
    """Return how values of a type are written on the command line.

    Args:
        hint: The annotation of a field.

    Returns:
        Such as `INT`, `FLOAT,FLOAT`, `{adamw,muon}` or `TEXT|none`.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        names = ",".join(map(str, arguments))
        return names if len(arguments) == 1 else f"{{{names}}}"
    if origin in (Union, types.UnionType):
        names = "|".join(type_name(item) for item in arguments if item is not type(None))
        return f"{names}|none" if type(None) in arguments else names
    if origin is tuple:
        items = arguments[:1] if arguments[-1] is ... else arguments
        return ",".join(map(type_name, items)) + (",..." if arguments[-1] is ... else "")
    return "JSON" if origin is dict else _NAMES.get(hint, "VALUE")


def field_docs(kind: Any) -> dict[str, str]:
    """Read the docstrings below the fields of a dataclass and its bases from their source.

    Args:
        kind: The dataclass.

    Returns:
        Docstrings by field, each in one line.
    """
    docs: dict[str, str] = {}
    bases: list[Any] = [base for base in reversed(kind.__mro__) if is_dataclass(base)]
    for base in bases:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for statement, below in zip(body.body, body.body[1:], strict=False):
            match statement, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    docs[name] = " ".join(text.split())
    return docs


def _kinds(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the kinds of parts that are given, such as {"data": "folder"}."""
    return {
        name.removesuffix(".kind"): value
        for name, value in given.items()
        if name.endswith(".kind") and value is not BARE
    }


def _check_flags(config: "RunConfig", given: Mapping[str, str], kinds: Mapping[str, str]) -> None:
    """Raise ValueError if a field that is not boolean is given without a value."""
    flags = [name for name, value in given.items() if value is BARE]
    if not flags:
        return
    known = [item for items in field_help(config, kinds).values() for item in items]
    for name in flags:
        items = [item for item in known if name in (item.path, item.path.rpartition(".")[2])]
        if items and not any(item.takes_flag for item in items):
            value = type_name(items[0].hint)
            raise ValueError(f"field --{name} has no value; write --{name} {value}")


def _part_help(name: str, part: Any, hint: Any, kind: str | None) -> Iterator[FieldHelp]:
    """Describe one part; of another kind than that of the recipe if `kind` says so."""
    members = members_by_kind(hint)
    if part is None and kind is None:
        yield FieldHelp(f"{name}.kind", Literal[tuple(members)], None, "Kind of this part, if any.")
        return
    cls, defaults = type(part), {} if part is None else vars(part)
    if kind is not None and kind != getattr(part, "kind", None):
        if kind not in members:
            raise ValueError(f"{name}.kind {kind!r} is unknown: use one of {', '.join(members)}")
        cls = members[kind]
        defaults = {item.name: _initial(item) for item in fields(cls)}
    docs, hints = field_docs(cls), field_types(cls)
    for item in fields(cls):
        path, default = f"{name}.{item.name}", defaults[item.name]
        if item.name == "kind":
            kinds: Any = Literal[tuple(members)] if members else hints["kind"]
            text = "Kind of this part; each has its own fields, which this help shows for --"
            yield FieldHelp(path, kinds, default, f"{text}{path} KIND --help.")
        elif item.name == _OPTIONS:
            yield from _encoding_help(name, defaults["encoding"], default)
        else:
            yield FieldHelp(path, hints[item.name], default, docs.get(item.name, ""))


def _encoding_help(name: str, encoding: str, options: dict[str, Any]) -> Iterator[FieldHelp]:
    """Describe the options that have an effect on an encoding."""
    from harope.rope import EncodingConfig, encoding_config
    from harope.rope.config import has_effect

    try:
        config = encoding_config(encoding, **options)
    except ValueError:
        # Only the model has an encoding of this name, such as an MMDiT its built-in embedding.
        return
    docs, hints = field_docs(EncodingConfig), field_types(EncodingConfig)
    for item in fields(config):
        if has_effect(config, item.name):
            path = f"{name}.{_OPTIONS}.{item.name}"
            yield FieldHelp(path, hints[item.name], getattr(config, item.name), docs[item.name])


def _initial(item: "Field[Any]") -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def _default(value: Any) -> str:
    if value is MISSING:
        return " (required)"
    if isinstance(value, (tuple, list)):
        text = ",".join(map(str, value))
    elif value is None or isinstance(value, bool):
        text = str(value).lower()
    else:
        text = str(value)
    text = printable(text)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return f" (default: {shown})" if shown else " (default: empty)"
