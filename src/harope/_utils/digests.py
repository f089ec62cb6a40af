"""Digests that identify contents: SHA-256, shortened, in hexadecimal."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

_CHUNK_BYTES = 2**20


def bytes_digest(*parts: bytes, length: int = 32) -> str:
    """Return the digest of a sequence of byte strings.

    Sizes are part of it: ("ab", "c") and ("a", "bc") have different digests.

    Args:
        parts: The byte strings, in order.
        length: Number of hexadecimal digits, at most 64.
    """
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "big") + part)
    return sha.hexdigest()[:length]


def file_digest(path: str | Path, *, length: int = 32) -> str:
    """Return the digest of a file's content, which is read piece by piece.

    Args:
        path: The file.
        length: Number of hexadecimal digits, at most 64.
    """
    sha = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()[:length]


def listing_digest(
    root: str | Path, names: Iterable[str], *, times: bool = False, length: int = 16
) -> str:
    """Return the digest of the names and sizes of files, whose content is not read.

    Args:
        root: The folder.
        names: Paths of the files below `root`, in a fixed order.
        times: Whether the times of their last changes are part of the digest.
        length: Number of hexadecimal digits, at most 64.

    Returns:
        The digest.
    """
    sha = hashlib.sha256()
    for name in names:
        status = Path(root, name).stat()
        # Names that are not UTF-8 contain lone surrogates.
        sha.update(f"{name}\0{status.st_size}\0".encode(errors="surrogateescape"))
        if times:
            sha.update(f"{status.st_mtime_ns}\0".encode())
    return sha.hexdigest()[:length]


def paths_digest(paths: Iterable[str | Path], *, times: bool = False, length: int = 16) -> str:
    """Return the digest of the names and sizes of files in any folders, whose paths do not count.

    Args:
        paths: The files, in a fixed order.
        times: Whether the times of their last changes are part of the digest.
        length: Number of hexadecimal digits, at most 64.

    Returns:
        The digest.
    """
    digests = (listing_digest(Path(p).parent, [Path(p).name], times=times) for p in paths)
    return bytes_digest(*(digest.encode() for digest in digests), length=length)


def weights_digest(module: nn.Module) -> str:
    """Return a digest of the names and values of a module's weights and buffers.

    Args:
        module: The module, on any device.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
