"""GenEval's folders of pictures as its scorer walks them, with every prompt complete."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harope.lab.evals.geneval.class_names import CLASS_NAMES
from harope.lab.evals.geneval.prompts import parse_metadata

METADATA_FILE = "metadata.jsonl"
# As the official scorer's: a name need only begin so.
_SAMPLE = re.compile(r"\d+\.png")


@dataclass(frozen=True)
class GenEvalImage:
    """One picture and what it was asked to show."""

    name: str
    """Its path from the folder."""
    metadata: dict[str, Any]


def read_geneval_folder(folder: Path) -> list[GenEvalImage]:
    """All pictures, prompt by prompt.

    Raises ValueError for a folder of another layout, and naming the first prompt that lacks a
    picture: prompts are numbered without gaps and have equally many, which the scorer takes on
    trust.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: pass one of `harope sample --geneval`")
    prompts = sorted(
        (path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()),
        key=lambda path: int(path.name),
    )
    if not prompts:
        raise ValueError(
            f"{folder} is not of GenEval's layout, 00000/{METADATA_FILE} and "
            f"00000/samples/0000.png: pass a folder of `harope sample --geneval`"
        )
    for number, path in enumerate(prompts):
        if int(path.name) != number:
            raise ValueError(f"{folder} lacks prompt {number:05d}: complete the folder")
    samples = {path: _samples(path) for path in prompts}
    _check_counts(samples)
    return [
        GenEvalImage(f"{path.name}/samples/{name}", metadata)
        for path, names in samples.items()
        for metadata in [_metadata(path)]
        for name in names
    ]


def _samples(prompt: Path) -> list[str]:
    folder = prompt / "samples"
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return sorted(name for name in names if _SAMPLE.match(name))


def _check_counts(samples: dict[Path, list[str]]) -> None:
    count = max(len(names) for names in samples.values())
    total = count * len(samples)
    missing = total - sum(len(names) for names in samples.values())
    for path, names in samples.items():
        if len(names) < max(count, 1):
            raise ValueError(
                f"{path} has {len(names)} pictures in samples and other prompts have {count}: "
                f"{missing} of {total} pictures are missing; complete the folder"
            )


def _metadata(prompt: Path) -> dict[str, Any]:
    path = prompt / METADATA_FILE
    if not path.is_file():
        raise ValueError(f"{path} is missing: GenEval's scorer reads the prompt there")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason}") from None
    metadata = parse_metadata(text, str(path))
    for clause in [*metadata.get("include", []), *metadata.get("exclude", [])]:
        if clause["class"] not in CLASS_NAMES:
            raise ValueError(
                f"{path} asks for {clause['class']!r}, which is none of GenEval's "
                f"{len(CLASS_NAMES)} classes"
            )
    return metadata
