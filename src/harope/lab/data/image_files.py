"""Finding image files in folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from harope.lab.data.left_out import LeftOut

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
"""Extensions of files that count as images, compared without regard to case."""

OTHER_EXTENSIONS = (
    *(".avif", ".exr", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl"),
    *(".pbm", ".pgm", ".pnm", ".psd", ".svg", ".tga"),
)
"""Extensions of images in formats that are not read. Such files are counted as left out."""


def check_folder(root: Path, content: str) -> None:
    """Check that data can be read from a folder.

    Args:
        root: The folder.
        content: What it must contain, for the message.

    Raises:
        FileNotFoundError: If it does not exist.
        NotADirectoryError: If it is a file.
    """
    if not root.exists():
        raise FileNotFoundError(f"folder {root} does not exist: set root to a folder of {content}")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder: set root to a folder of {content}")


def find_images(root: Path, left_out: LeftOut, folder: str = "") -> Iterator[bytes]:
    """Yield the paths of all images in a folder and its subfolders, following links.

    Args:
        root: Folder that the paths are relative to.
        left_out: Counts the images in formats that are not read, and links that lead nowhere.
        folder: Folder to search, relative to `root`.

    Yields:
        Paths relative to `root`, in the file system's encoding and in no particular order.
        Hidden files and folders are skipped.

    Raises:
        ValueError: If a link leads to a folder that contains it.
        OSError: If a folder cannot be read.
    """
    yield from _find_images(root, left_out, folder, (os.path.realpath(root / folder),))


def _find_images(
    root: Path, left_out: LeftOut, folder: str, parents: tuple[str, ...]
) -> Iterator[bytes]:
    for entry in visible_entries(root / folder):
        path = os.path.join(folder, entry.name)
        if entry.is_dir():
            target = os.path.realpath(entry.path)
            if target in parents:
                raise ValueError(
                    f"{entry.path} is a link to {target}, which contains it: remove the link"
                )
            yield from _find_images(root, left_out, path, (*parents, target))
        elif is_other_image(entry.name):
            left_out.add("images in formats that are not read", path)
        elif entry.name.lower().endswith(EXTENSIONS):
            if entry.is_file():
                yield os.fsencode(path)
            else:
                left_out.add("broken links and special files", path)


def is_other_image(name: str) -> bool:
    """Return whether a file name has the extension of an image format that is not read.

    Args:
        name: Name of the file.

    Returns:
        True for `.gif`, `.heic` and the like.
    """
    return name.lower().endswith(OTHER_EXTENSIONS)


def visible_entries(folder: Path) -> Iterator[os.DirEntry]:
    """Yield the entries of a folder that are not hidden.

    A directory entry knows its type from the listing, which saves one system call per file.

    Args:
        folder: Folder to list.

    Yields:
        Entries whose names do not begin with a dot, in no particular order.

    Raises:
        OSError: If the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))
