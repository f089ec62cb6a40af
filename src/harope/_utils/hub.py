"""Files of the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def download_files(hub_id: str, file_names: Sequence[str], **options: Any) -> Path:
    """Download files of a repository of the Hugging Face Hub, or find them in its local cache.

    Args:
        hub_id: Name of the repository, such as `user/model`.
        file_names: Names of the files.
        options: Further arguments of `huggingface_hub.snapshot_download`, such as `revision`.

    Returns:
        Folder of the files.

    Raises:
        ValueError: If huggingface_hub is not installed, or the files cannot be downloaded.
    """
    hint = "pass a folder, or a Hugging Face Hub id with huggingface_hub installed"
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(f"{hub_id!r} is not a folder: {hint}") from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(file_names), **options))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{hub_id!r} is not a folder and cannot be downloaded ({error}): {hint}"
        ) from None


def find_files(folder_or_id: str | Path) -> Path | None:
    """Find the files of a model without downloading any.

    Args:
        folder_or_id: Folder, or name of a repository of the Hugging Face Hub.

    Returns:
        The folder, or that of the repository in the local cache; None if there is none.
    """
    if Path(folder_or_id).is_dir():
        return Path(folder_or_id)
    try:
        from huggingface_hub import try_to_load_from_cache

        for name in ("model_index.json", "config.json"):
            found = try_to_load_from_cache(str(folder_or_id), name)
            if isinstance(found, str):
                return Path(found).parent
    # A ValueError says that the name cannot be that of a repository.
    except (ImportError, ValueError):
        pass
    return None
