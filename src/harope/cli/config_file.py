"""Files of configuration fields, for `--config`."""

import sys
from pathlib import Path
from typing import Any

from harope._utils.json_files import load_json
from harope._utils.text_files import read_text
from harope.lab.training.serialization import flat

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_config_file(path: Path) -> dict[str, Any]:
    """Read the fields of a TOML or JSON file.

    Args:
        path: File whose name ends in .toml or .json, such as the config.json of a run.

    Returns:
        Values by field; parts of the configuration are dicts.

    Raises:
        ValueError: If the file cannot be read, is of another format, or contains no fields.
    """
    if path.is_dir():
        raise ValueError(f"--config {path} is a folder; pass a file of it, such as config.json")
    if path.suffix == ".json":
        values = load_json(path)
    elif path.suffix == ".toml":
        try:
            values = tomllib.loads(read_text(path))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path} is not TOML: {error}") from None
    else:
        raise ValueError(f"--config {path} must be a .toml or .json file")
    if not isinstance(values, dict):
        raise ValueError(f"{path} must contain fields by name, such as {{'steps': 2000}}")
    return values


def field_changes(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a file as changes of a recipe's configuration.

    Args:
        values: Fields as `read_config_file` returns them.

    Returns:
        Values by path, such as `optimizer.lr`, without the name of the recipe and the task.
    """
    top = {name: value for name, value in values.items() if name not in ("recipe", "task")}
    return flat(top, divide_options=True)
