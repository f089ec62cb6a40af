"""Names of the classes that a model was trained on."""

from pathlib import Path

from harope._utils.json_files import load_json, validate
from harope.lab.data.image_files import visible_entries
from harope.lab.data.labelled.folder import FolderDataConfig
from harope.lab.data.labelled.scenes import ScenesDataConfig
from harope.lab.data.registry import DataConfig
from harope.lab.scenes.grammar import NUM_CLASSES, class_name
from harope.models.checkpoint_files import STATE_FILE, newest_checkpoint

CLASSES_FILE = "classes.json"
"""File in the folder of a converted model: names of its classes, in the order of the labels."""


def trained_classes(model: Path, data: DataConfig) -> tuple[str, ...] | None:
    """Read the names of the classes that a model was trained on.

    Args:
        model: Run folder, checkpoint folder or converted model.
        data: Training data.

    Returns:
        The names in the order of their labels; None if they are unknown.

    Raises:
        ValueError: If the file that has them is damaged.
    """
    if isinstance(data, ScenesDataConfig):
        return tuple(map(class_name, range(NUM_CLASSES)))
    if (file := model / CLASSES_FILE).is_file():
        return tuple(validate(load_json(file), list[str], file))
    state = newest_checkpoint(model) / STATE_FILE
    stored = load_json(state) if state.is_file() else None
    identity = stored.get("data") if isinstance(stored, dict) else None
    if isinstance(identity, dict) and "classes" in identity:
        return tuple(validate(identity["classes"], list[str], f"{state}: data.classes"))
    # Runs of older versions do not store the names.
    if isinstance(data, FolderDataConfig) and Path(data.root).is_dir():
        return tuple(sorted(e.name for e in visible_entries(Path(data.root)) if e.is_dir()))
    return None
