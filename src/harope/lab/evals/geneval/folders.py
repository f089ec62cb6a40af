"""GenEval's folder format, written and read.

As `evaluation/evaluate_images.py` of github.com/djghosh13/geneval reads it, a folder holds one
directory per prompt, named by digits:

    00000/metadata.jsonl      the prompt and its clauses, one JSON object
    00000/samples/0000.png    the images; every name that begins like this one is read
    00000/grid.png            all images of the prompt, ignored by the scorer

Files next to the directories are ignored as well.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from harope._utils.atomic import write_text_atomic
from harope.lab.data.image_io import save_png
from harope.lab.evals.geneval.class_names import CLASS_NAMES
from harope.lab.evals.geneval.prompts import parse_metadata
from harope.lab.sampling.prompt_folder import MANIFEST_FILE, PromptSample, join_tiles
from harope.lab.sampling.stored_samples import is_complete_png

METADATA_FILE = "metadata.jsonl"
GRID_FILE = "grid.png"
# The official scorer's pattern, which need only match the beginning of a name.
_SAMPLE = re.compile(r"\d+\.png")


@dataclass(frozen=True)
class GenEvalFolder:
    """Folder format for the requests of `read_geneval`."""

    name = "geneval"
    joins_samples = True

    def manifest(self, out: Path) -> Path:
        return out / MANIFEST_FILE

    def sample_files(self, out: Path, sample: PromptSample) -> list[Path]:
        return [_path(out, sample)]

    def save(self, out: Path, sample: PromptSample, image: UInt8[Tensor, "height width 3"]) -> None:
        save_png(image, _path(out, sample))

    def finish_prompt(self, out: Path, group: Sequence[PromptSample]) -> None:
        """Write the metadata, which the scorer requires, and the grid if all samples exist.

        Args:
            out: Folder of the images.
            group: All samples of the prompt.
        """
        folder, request = out / group[0].request.name, group[0].request
        if not (folder / METADATA_FILE).exists():
            assert request.metadata is not None
            (folder / "samples").mkdir(parents=True, exist_ok=True)
            write_text_atomic(folder / METADATA_FILE, request.metadata + "\n")
        grid, samples = folder / GRID_FILE, self.image_paths(out, group)
        if not is_complete_png(grid) and all(map(is_complete_png, samples)):
            save_png(join_tiles(samples, math.ceil(math.sqrt(len(samples)))), grid)

    def image_paths(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        return [_path(out, sample) for sample in group]

    def prompt_files(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        folder = out / group[0].request.name
        return [*self.image_paths(out, group), folder / METADATA_FILE, folder / GRID_FILE]


@dataclass(frozen=True)
class GenEvalImage:
    """One image of a GenEval folder with its prompt."""

    name: str
    """Path relative to the folder."""
    metadata: dict[str, Any]
    """Metadata of the prompt, as parsed by `parse_metadata`."""


def read_geneval_folder(folder: Path) -> list[GenEvalImage]:
    """List the images of a GenEval folder, prompt by prompt.

    The prompts must be numbered without gaps and have equally many images, which the official
    scorer assumes without checking.

    Args:
        folder: The folder.

    Returns:
        The images in the order of the prompts.

    Raises:
        ValueError: If the folder has another format, or naming the first incomplete prompt.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: pass one of `harope sample --geneval`")
    prompts = sorted(
        (path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()),
        key=lambda path: int(path.name),
    )
    if not prompts:
        raise ValueError(
            f"{folder} does not have GenEval's format, 00000/{METADATA_FILE} and "
            f"00000/samples/0000.png: pass a folder of `harope sample --geneval`"
        )
    for number, path in enumerate(prompts):
        if int(path.name) != number:
            raise ValueError(f"{folder} has no prompt {number:05d}: complete the folder")
    samples = {path: _sample_names(path) for path in prompts}
    _check_counts(samples)
    return [
        GenEvalImage(f"{path.name}/samples/{name}", metadata)
        for path, names in samples.items()
        for metadata in [_read_metadata(path)]
        for name in names
    ]


def _path(out: Path, sample: PromptSample) -> Path:
    return out / sample.request.name / "samples" / f"{sample.index_in_prompt:04d}.png"


def _sample_names(prompt: Path) -> list[str]:
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
                f"{path} has {len(names)} images in samples and other prompts have {count}: "
                f"{missing} of {total} images are missing; complete the folder"
            )


def _read_metadata(prompt: Path) -> dict[str, Any]:
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
