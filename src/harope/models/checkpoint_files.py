"""Where checkpoints lie in the folder of a training run."""

import re
from pathlib import Path

_NAME = re.compile(r"step-(\d{8})")


def list_checkpoints(run: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first."""
    folder = run / "checkpoints"
    found = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(path for path in found if _NAME.fullmatch(path.name))


def find_weights(path: Path, weights: str) -> Path:
    """The file of "model" or "ema" in a checkpoint folder, or in the last one of a run.

    Raises ValueError where there is none.
    """
    found = list_checkpoints(path)
    folder = found[-1] if found else path
    file = folder / f"{weights}.safetensors"
    if not file.exists():
        raise ValueError(f"{folder} holds no checkpoint: expected {file.name}, or a run folder")
    return file


def checkpoint_step(folder: Path) -> int:
    """The step that a checkpoint folder was written after."""
    match = _NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1])
