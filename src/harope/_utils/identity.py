"""Folders that are filled little by little and know what their content was made from.

A folder of samples, latents or scores can be completed by a later run only if that run would have
made the same content. The identity is everything that this depends on, as JSON values: names,
sizes, digests, settings, weights. It is stored in a manifest in the folder and compared field by
field.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harope._utils.atomic import remove_abandoned, write_json_atomic
from harope._utils.json_files import load_json, shorten

MANIFEST_FILE = "identity.json"


@dataclass(frozen=True)
class Difference:
    """The first field in which two identities differ."""

    field: str
    """Its path, as in `sampling.num_steps` or `labels.3`."""
    stored: str
    """The stored value as text; `absent` if there is none."""
    given: str
    """The given value as text; `absent` if there is none."""

    def __str__(self) -> str:
        return f"{self.field} {self.stored}, not {self.given}"


def first_difference(
    stored: Any, given: Any, *, ignore: Collection[str] = (), field: str = ""
) -> Difference | None:
    """Compare two JSON values field by field.

    Args:
        stored: The value that was stored.
        given: The value to compare it with.
        ignore: Top-level fields that may differ.
        field: Path of the two values, the beginning of the difference's `field`.

    Returns:
        The first difference in the order of the stored fields, or None if the values are equal.
    """
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        names = [name for name in {**stored, **given} if name not in ignore]
        pairs = [(name, stored.get(name, _ABSENT), given.get(name, _ABSENT)) for name in names]
    elif isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        pairs = [(str(i), *pair) for i, pair in enumerate(zip(stored, given, strict=True))]
    # NaN is the one value that differs from itself.
    elif stored == given or (stored != stored and given != given):
        return None
    else:
        return Difference(field or "value", shorten(stored), shorten(given))
    for name, *pair in pairs:
        path = f"{field}.{name}" if field else name
        if found := first_difference(*pair, field=path):
            return found
    return None


def check_unused(folder: str | Path, content: str) -> None:
    """Check that a folder contains nothing yet, except hidden files.

    Args:
        folder: The folder, which need not exist.
        content: What it may contain, such as `run`, for the error.

    Raises:
        ValueError: If it contains other files.
    """
    if found := _first_entry(Path(folder)):
        raise ValueError(
            f"folder {folder} is not empty and holds no {content}, but {found}: choose another "
            f"--out"
        )


class ResumableFolder:
    """A folder that is filled by one run or several, all of the same identity.

    Hidden files, whose names begin with a dot, do not count as content: they are temporary files
    of runs that were killed.

    Args:
        folder: The folder, which need not exist.
        identity: What its content is made from, as JSON values.
        manifest: File in which the identity is stored; by default `identity.json` in the folder.
        content: What the folder holds, for errors: `samples`, `latents`.
        hint: What to do about an error.
    """

    def __init__(
        self,
        folder: str | Path,
        identity: Mapping[str, Any],
        *,
        manifest: str | Path | None = None,
        content: str = "files",
        hint: str = "choose another folder",
    ) -> None:
        self.folder = Path(folder)
        self.manifest = Path(manifest or self.folder / MANIFEST_FILE)
        # Tuples become lists and numbers become names of fields, as in the file.
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._content, self._hint = content, hint

    def check(self) -> bool:
        """Check that the folder may be filled; nothing is written.

        Returns:
            True if a former run of the same identity began the folder, False if it is new.

        Raises:
            ValueError: If the folder was made from something else, naming the first field that
                differs and both values; if it holds files but no manifest; if the manifest is
                damaged.
        """
        # The content is listed before the manifest is looked for: a run that begins at the same
        # time writes the manifest first.
        has_content = _first_entry(self.folder) is not None
        if not self.manifest.exists():
            if has_content:
                raise ValueError(
                    f"{self.folder} holds files but no {self.manifest.name} that says what they "
                    f"were made from: {self._hint}"
                )
            return False
        if difference := first_difference(load_json(self.manifest), self.identity):
            raise ValueError(
                f"{self.folder} holds {self._content} made from something else ({difference}): "
                f"{self._hint}"
            )
        return True

    def begin(self) -> bool:
        """Check as `check` does, create the folder, and store the identity if the folder is new.

        Temporary files that killed runs left in the folder are removed.

        Call it after all inputs were checked, so that a run that cannot start leaves no folder.
        Several processes may call it at once.

        Returns:
            True if a former run of the same identity began the folder, False if it is new.

        Raises:
            ValueError: As `check` says.
        """
        resumed = self.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)
        if not resumed:
            write_json_atomic(self.manifest, self.identity)
        return resumed


def _first_entry(folder: Path) -> str | None:
    """Return the first name in a folder that is not hidden; None if there is none."""
    names = (entry.name for entry in folder.iterdir()) if folder.exists() else ()
    return min((name for name in names if not name.startswith(".")), default=None)


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()
