"""A run's folder: created once, entered again only with the same configuration."""

import json
from pathlib import Path

from harope.lab.training.config import RunConfig
from harope.lab.training.serialization import flat, from_json, to_json
from harope.models.checkpoint_files import checkpoint_step, list_checkpoints

CONFIG_FILE = "config.json"


def open_run(config: RunConfig, folder: Path) -> Path:
    """Create the folder, or check that it holds this very configuration.

    Raises ValueError naming the first field that differs and both values.
    """
    check_run(config, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(to_json(config), indent=2) + "\n")
    return folder


def check_run(config: RunConfig, folder: Path) -> None:
    """Raise ValueError unless `open_run` would open the folder; nothing is written."""
    if (folder / CONFIG_FILE).exists():
        old = read_config(folder)
        _check_same(config, old, folder)
        _check_steps(config, old, folder)
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"folder {folder} is not empty and holds no run: choose another --out")


def read_config(folder: Path) -> RunConfig:
    """The configuration of a run. Raises ValueError when the folder holds none."""
    path = folder / CONFIG_FILE
    try:
        return from_json(json.loads(path.read_text()))
    except OSError:
        raise ValueError(f"{folder} is not a run: it has no {CONFIG_FILE}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _check_same(config: RunConfig, old: RunConfig, folder: Path) -> None:
    wanted, kept = flat(to_json(config)), flat(to_json(old))
    for name in sorted(wanted.keys() | kept.keys()):
        if name.split(".")[0] in config.REPORTING or wanted.get(name) == kept.get(name):
            continue
        raise ValueError(
            f"{folder} holds a run with {name} {kept.get(name)!r}, not {wanted.get(name)!r}: "
            f"choose another --out, or the same configuration to go on"
        )


def _check_steps(config: RunConfig, old: RunConfig, folder: Path) -> None:
    """Once the rate decays towards the end, another end would make another run of it."""
    found = list_checkpoints(folder)
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
