"""DiT models on disk and on the Hugging Face Hub, in training checkpoints and in `.pt` files."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from harope._utils.atomic import atomic_path, write_json_atomic
from harope._utils.checksums import verify_checksums
from harope._utils.hub import check_upload, download_files, upload_folder
from harope._utils.json_files import load_json
from harope.models.checkpoint_files import (
    CONFIG_FILE,
    check_not_sharded,
    is_training_checkpoint,
    newest_checkpoint,
    read_weights,
)
from harope.models.dit.config import DiTConfig
from harope.models.dit.convert import read_dit_checkpoint
from harope.models.dit.model import DiT

WEIGHTS_FILE = "model.safetensors"


def save_pretrained(model: DiT, folder: Path) -> None:
    """Write a model as `config.json` and `model.safetensors`.

    Args:
        model: The model.
        folder: Folder to write into, created if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    write_json_atomic(folder / CONFIG_FILE, model.config.to_dict())


def from_pretrained(folder_or_hub_id: str, **download_options: Any) -> DiT:
    """Read a model from a folder or from the Hugging Face Hub; see `DiT.from_pretrained`.

    Args:
        folder_or_hub_id: Folder, or id of a repository.
        download_options: Arguments of `DiT.from_pretrained` for downloads.

    Raises:
        ValueError: If there is no such model, or its files are damaged.
    """
    folder = Path(folder_or_hub_id)
    if not folder.is_dir():
        folder = download_files(folder_or_hub_id, [CONFIG_FILE, WEIGHTS_FILE], **download_options)
    return _read_folder(folder, WEIGHTS_FILE)


def from_checkpoint(path: Path, *, weights: str = "ema", num_heads: int | None = None) -> DiT:
    """Read a model from a training checkpoint or a `.pt` file; see `DiT.from_checkpoint`.

    Args:
        path: Checkpoint, run or model folder, or `.pt` file.
        weights: "ema" or "model".
        num_heads: Number of heads of a `.pt` file that does not tell.

    Raises:
        ValueError: If the path has no checkpoint, or a damaged one, or one of another model.
    """
    if weights not in ("ema", "model"):
        raise ValueError(f"weights {weights!r} must be 'ema' or 'model'")
    if path.is_file():
        config, state = read_dit_checkpoint(path, weights=weights, num_heads=num_heads)
        return _build(config, state, path)
    folder = newest_checkpoint(path)
    file = f"{weights}.safetensors"
    if not (folder / file).exists() and not is_training_checkpoint(folder):
        # A model written by `save_pretrained` has one set of weights.
        file = WEIGHTS_FILE
    return _read_folder(folder, file)


def _read_folder(folder: Path, file: str) -> DiT:
    if not (folder / CONFIG_FILE).exists() or not (folder / file).exists():
        check_not_sharded(folder)
        raise ValueError(
            f"{folder} holds no checkpoint: expected {CONFIG_FILE} and {file}, a run folder, "
            f"or a .pt file"
        )
    verify_checksums(folder, [CONFIG_FILE, file])
    try:
        config = DiTConfig.from_dict(load_json(folder / CONFIG_FILE))
    except TypeError as error:
        raise ValueError(f"checkpoint {folder} is damaged: {error}") from None
    try:
        state = read_weights(folder / file)
    except ValueError as error:
        raise ValueError(f"checkpoint {folder} is damaged: {error}") from None
    return _build(config, state, folder)


def _build(config: DiTConfig, state: dict[str, Tensor], path: Path) -> DiT:
    model = DiT(config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    actual = {name: tuple(value.shape) for name, value in state.items()}
    if expected != actual:
        raise ValueError(
            f"checkpoint {path} does not fit its configuration: {_difference(expected, actual)}"
        )
    model.load_state_dict(state)
    return model.eval()


def _difference(expected: dict[str, Any], actual: dict[str, Any]) -> str:
    missing = sorted(expected.keys() - actual.keys())
    extra = sorted(actual.keys() - expected.keys())
    if missing or extra:
        return f"missing {missing[:4]}, unknown {extra[:4]}"
    name = next(name for name in expected if expected[name] != actual[name])
    return f"{name} has the shape {actual[name]}, expected {expected[name]}"


def push_to_hub(
    model: DiT,
    repo_id: str,
    *,
    private: bool | None,
    token: str | None,
    branch: str | None,
    **commit: Any,
) -> str:
    """Upload a model to the Hugging Face Hub; see `DiT.push_to_hub`.

    Args:
        model: The model.
        repo_id: Repository; created if missing.
        private: Whether a new repository is private.
        token: Access token.
        branch: Branch to commit to.
        commit: Further arguments of `HfApi.upload_folder`.

    Returns:
        The URL of the commit.

    Raises:
        ImportError: If huggingface_hub is not installed.
        ValueError: As `harope._utils.hub.check_upload` says, or if the upload fails.
    """
    check_upload(repo_id, token)
    with TemporaryDirectory() as folder:
        save_pretrained(model, Path(folder))
        return upload_folder(
            Path(folder), repo_id, private=private, token=token, branch=branch, **commit
        )
