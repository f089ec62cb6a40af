"""Files of the Hugging Face Hub, which gets one request and has a few seconds to answer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

_SECONDS = 3.0
"""Longest wait for the answer of the Hub."""


def download_files(
    hub_id: str, file_names: Sequence[str], *, optional: Sequence[str] = (), **options: Any
) -> Path:
    """Download files of a repository of the Hugging Face Hub, or find them in its local cache.

    The cache is used without asking the Hub if that cannot be reached.

    Args:
        hub_id: Name of the repository, such as `user/model`.
        file_names: Names of the files.
        optional: Names of files that the repository need not have.
        options: Further arguments of `huggingface_hub.snapshot_download`, such as `revision`.

    Returns:
        Folder of the files.

    Raises:
        ValueError: If huggingface_hub is not installed; if the Hub cannot be reached and the files
            are not cached; or if there is no such repository, revision or file.
    """
    _check_repository(hub_id)
    from huggingface_hub import snapshot_download

    patterns = [*file_names, *optional]
    reason: str | None = "local_files_only forbids downloads"
    if not options.get("local_files_only"):
        reason = _why_unreachable(
            hub_id, revision=options.get("revision"), token=options.get("token")
        )
    if reason is not None:
        folder = _find_cached(hub_id, patterns, reason, options)
    else:
        try:
            folder = Path(snapshot_download(hub_id, allow_patterns=patterns, **options))
        except Exception as error:
            # The libraries that huggingface_hub makes requests with have exceptions of their own.
            raise ValueError(f"{hub_id!r} cannot be downloaded ({_first_line(error)})") from error
    missing = [name for name in file_names if not (folder / name).is_file()]
    if missing and reason is not None:
        raise ValueError(
            f"{missing[0]} of {hub_id!r} is not cached, and {reason}: check the network, or pass a "
            f"folder"
        )
    if missing:
        raise ValueError(
            f"{hub_id!r} has no file {missing[0]} on the Hugging Face Hub: pass the id of a "
            f"repository with {', '.join(file_names)}"
        )
    return folder


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


def local_files_only(folder_or_id: str | Path, *, repo_type: str = "model") -> bool:
    """Decide whether `from_pretrained` of another library should do without the Hub.

    Those libraries repeat requests for up to a minute if the Hub cannot be reached, and have an
    argument `local_files_only` that prevents it.

    Args:
        folder_or_id: Folder, or name of a repository of the Hugging Face Hub.
        repo_type: "model" or "dataset".

    Returns:
        Whether the Hub cannot be reached but files of the repository are cached, or it is a folder.

    Raises:
        ValueError: If it is neither a folder nor cached, and the Hub cannot be reached or has no
            such repository.
    """
    if Path(folder_or_id).exists():
        return True
    hub_id = str(folder_or_id)
    _check_repository(hub_id)
    reason = _why_unreachable(hub_id, repo_type=repo_type)
    if reason is not None:
        _find_cached(hub_id, [], reason, {"repo_type": repo_type})
    return reason is not None


def check_upload(hub_id: str, token: str | None = None) -> None:
    """Check, without changing anything, that files can be uploaded to a repository.

    Args:
        hub_id: Name of the repository, which need not exist, such as `user/model`.
        token: Access token; None for the stored one.

    Raises:
        ImportError: If huggingface_hub is not installed.
        ValueError: If the name is not valid, there is no access token, the Hub cannot be reached,
            or the token does not allow writing to the repository.
    """
    try:
        from huggingface_hub import HfApi, get_token
    except ImportError as error:
        raise ImportError(
            f"uploading to {hub_id!r} needs huggingface_hub, which is not installed: run "
            f"`pip install huggingface_hub`"
        ) from error
    if not _is_hub_id(hub_id):
        raise ValueError(
            f"{hub_id!r} cannot be the id of a repository: pass one such as user/model, of "
            f"letters, digits, '-', '_' and '.'"
        )
    token = token or get_token()
    if token is None:
        raise ValueError(
            f"uploading to {hub_id!r} needs an access token of the Hugging Face Hub, and there is "
            f"none: run `hf auth login`, or set HF_TOKEN to a token with write access"
        )
    try:
        user = _within_seconds(HfApi(token=token).whoami)
    except Exception as error:
        if _is_answer(error):
            raise ValueError(
                f"the Hugging Face Hub does not accept the access token ({_first_line(error)}): "
                f"run `hf auth login`, or set HF_TOKEN to a token with write access"
            ) from None
        raise ValueError(
            f"nothing can be uploaded to {hub_id!r}, because the Hugging Face Hub cannot be "
            f"reached ({_first_line(error)}): check the network"
        ) from None
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ValueError(
            f"the access token of {user['name']} cannot write, which uploading to {hub_id!r} "
            f"needs: create one with write access at https://huggingface.co/settings/tokens"
        )
    owner, _, name = hub_id.rpartition("/")
    owners = [user["name"], *(group["name"] for group in user.get("orgs", ()))]
    if owner and owner not in owners:
        raise ValueError(
            f"the access token of {user['name']} cannot write to {hub_id!r}: choose an id such as "
            f"{user['name']}/{name}"
        )


def upload_folder(
    folder: Path,
    hub_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    **commit: Any,
) -> str:
    """Upload the files of a folder to a repository of the Hugging Face Hub, after `check_upload`.

    Args:
        folder: Folder whose files are uploaded.
        hub_id: Repository; created if missing.
        private: Whether a new repository is private; None as the account is set up.
        token: Access token; None for the stored one.
        branch: Branch to commit to, created if missing; None for the main branch.
        commit: Further arguments of `HfApi.upload_folder`.

    Returns:
        The URL of the commit.

    Raises:
        ValueError: If the upload fails.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        hub_id = api.create_repo(hub_id, private=private, exist_ok=True).repo_id
        if branch is not None:
            api.create_branch(hub_id, branch=branch, exist_ok=True)
        return str(api.upload_folder(repo_id=hub_id, folder_path=folder, revision=branch, **commit))
    except Exception as error:
        raise ValueError(f"uploading to {hub_id!r} failed: {_first_line(error)}") from error


def _check_repository(hub_id: str) -> None:
    """Raise ValueError unless the name can be that of a repository, and can be looked up."""
    try:
        valid = _is_hub_id(hub_id)
    except ImportError:
        raise ValueError(
            f"{hub_id!r} is not a folder: pass a folder, or a Hugging Face Hub id with "
            f"huggingface_hub installed (pip install huggingface_hub)"
        ) from None
    if not valid:
        raise ValueError(
            f"{hub_id!r} is neither a folder nor an id of the Hugging Face Hub: pass a folder that "
            f"exists, or an id such as user/model"
        )


def _is_hub_id(name: str) -> bool:
    from huggingface_hub import utils

    try:
        utils.validate_repo_id(name)
    except ValueError:
        return False
    return True


def _why_unreachable(
    hub_id: str, *, repo_type: str = "model", revision: str | None = None, token: Any = None
) -> str | None:
    """Ask the Hub for a repository; return None, or a clause that says why it does not answer.

    Raises ValueError if the Hub answers that there is no such repository or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(token=token)
    try:
        _within_seconds(
            lambda: api.repo_info(hub_id, repo_type=repo_type, revision=revision, timeout=_SECONDS)
        )
    except GatedRepoError:
        raise ValueError(
            f"{hub_id!r} is gated: accept its conditions at https://huggingface.co/{hub_id} and "
            f"run `hf auth login`, or pass a folder"
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(
            f"{hub_id!r} is not a folder, and the Hugging Face Hub has no such public repository: "
            f"check the id, or run `hf auth login` if it is private"
        ) from None
    except RevisionNotFoundError:
        raise ValueError(
            f"{hub_id!r} has no revision {revision!r}: pass a branch, tag or commit of it"
        ) from None
    except Exception as error:
        return f"the Hugging Face Hub cannot be reached ({_first_line(error)})"
    return None


def _find_cached(hub_id: str, patterns: list[str], reason: str, options: dict[str, Any]) -> Path:
    """Return the folder of a repository in the local cache, or raise ValueError with the reason."""
    from huggingface_hub import snapshot_download

    options = options | {"local_files_only": True}
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns, **options))
    except (OSError, ValueError):
        raise ValueError(
            f"{hub_id!r} is not a folder and not cached, and {reason}: check the network, or pass "
            f"a folder"
        ) from None


def _within_seconds(request: Callable[[], T]) -> T:
    """Return what a request returns, or raise TimeoutError after `_SECONDS`.

    The time limits of the libraries do not include looking up the name of the server, which cannot
    be interrupted, so the request is left alone in a thread that does not outlive the process.
    """
    outcome: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((request(), None))
        except Exception as error:
            outcome.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        value, error = outcome.get(timeout=_SECONDS)
    except Empty:
        raise TimeoutError(f"no answer within {_SECONDS:g} seconds") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # of the type T, since there is no error


def _is_answer(error: Exception) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
