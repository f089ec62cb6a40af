"""Run folders: created once, and entered again only with the same configuration."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from harope._utils.atomic import remove_abandoned, write_json_atomic
from harope._utils.identity import check_unused, first_difference
from harope._utils.json_files import load_json, read_json, shorten
from harope.lab.training.checkpoint import TRAIN_FILE
from harope.lab.training.serialization import flat, from_json, to_json
from harope.lab.training.task import RunConfig
from harope.models.checkpoint_files import checkpoint_step, list_all_checkpoints

CONFIG_FILE = "config.json"


def open_run(config: RunConfig, folder: Path) -> Path:
    """Create a run folder, or enter one of the same configuration.

    The configuration is written if it is new or changed. Temporary files of killed processes are
    removed.

    Args:
        config: Configuration of the training.
        folder: Run folder.

    Returns:
        The folder.

    Raises:
        ValueError: As `check_run` says.
    """
    check_run(config, folder)
    remove_abandoned(folder)
    path, values = folder / CONFIG_FILE, to_json(config)
    if not _contains(path, values):
        write_json_atomic(path, values)
    return folder


def check_run(config: RunConfig, folder: Path) -> None:
    """Check that `open_run` would open the folder; nothing is written.

    A missing or damaged configuration is replaced by that of the newest checkpoint.

    Args:
        config: Configuration of the training.
        folder: Run folder, which need not exist.

    Raises:
        ValueError: If the folder holds a run of another configuration, naming the first field that
            differs and both values; if it holds other files; if its configuration is damaged and
            there is no checkpoint; or if the learning rate has begun to decay towards another
            number of steps.
    """
    if (old := _stored_config(folder)) is not None:
        _check_same(config, old, folder)
        _check_steps(config, old, folder)
    else:
        check_unused(folder, "run")


def changed_fields(config: RunConfig, folder: Path) -> list[str]:
    """Describe the fields that differ from those of the run in a folder.

    Args:
        config: Configuration of the training.
        folder: Run folder, which need not exist.

    Returns:
        Such as "steps: 120, was 3000"; none for a new run.

    Raises:
        ValueError: If the configuration of the run is damaged and there is no checkpoint.
    """
    old = _stored_config(folder)
    before, now = {} if old is None else flat(to_json(old)), flat(to_json(config))
    return [
        f"{name}: {shorten(value)}, was {shorten(before[name])}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]


def read_config(folder: Path) -> RunConfig:
    """Read the configuration of a run.

    Args:
        folder: Run folder.

    Returns:
        The configuration.

    Raises:
        ValueError: If the folder holds none, or a damaged one.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not a run: it has no {CONFIG_FILE}")
    return _read(path)


def _stored_config(folder: Path) -> RunConfig | None:
    """Return the configuration of a run or, if it is damaged, of its newest checkpoint."""
    newest_first = reversed(list_all_checkpoints(folder))
    files = [folder / CONFIG_FILE, *(checkpoint / TRAIN_FILE for checkpoint in newest_first)]
    errors = []
    for file in filter(Path.is_file, files):
        try:
            return _read(file)
        except ValueError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return None


def _contains(path: Path, values: dict[str, Any]) -> bool:
    """Tell whether a file exists and contains these JSON values."""
    with suppress(ValueError):
        return bool(load_json(path) == values)
    return False


def _read(path: Path) -> RunConfig:
    values = read_json(path, dict[str, Any])
    try:
        return from_json(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_same(config: RunConfig, old: RunConfig, folder: Path) -> None:
    if difference := first_difference(to_json(old), to_json(config), ignore=config.REPORTING):
        raise ValueError(
            f"{folder} holds a run with {difference}: choose another --out, or the same "
            f"configuration to go on"
        )


def _check_steps(config: RunConfig, old: RunConfig, folder: Path) -> None:
    # Once the rate decays towards the end, another end would make it another run.
    found = list_all_checkpoints(folder)
    if config.steps == old.steps or not found:
        return
    begins = config.optimizer.first_decayed(min(config.steps, old.steps))
    done = checkpoint_step(found[-1])
    if done > begins:
        raise ValueError(
            f"{folder} has taken {done} steps, past step {begins:.0f}, where the decay of "
            f"{old.steps} or {config.steps} steps begins: choose another --out, or keep "
            f"steps {old.steps}"
        )
