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
