"""GenEval's folder: `00000/metadata.jsonl`, `00000/samples/0000.png` .. and `00000/grid.png`.

As `evaluation/evaluate_images.py` of github.com/djghosh13/geneval reads it: directories whose names
are digits, in each the prompt's JSON and, under `samples`, every name that begins like `0000.png`.
It passes over files beside the directories, and over `grid.png`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from harope._utils.atomic import write_text_atomic
from harope.lab.data.image_io import save_png
from harope.lab.sampling.prompt_folder import MANIFEST_FILE, PromptSample, join_tiles


@dataclass(frozen=True)
class GenEvalFolder:
    """Requests of `read_geneval`."""

    joins_samples = True

    def manifest(self, out: Path) -> Path:
        """A file beside the prompts' directories."""
        return out / MANIFEST_FILE

    def has(self, out: Path, sample: PromptSample) -> bool:
        """Whether the picture is there."""
        return _path(out, sample).exists()

    def save(self, out: Path, sample: PromptSample, image: UInt8[Tensor, "height width 3"]) -> None:
        """Write the picture."""
        save_png(image, _path(out, sample))

    def finish_prompt(self, out: Path, group: Sequence[PromptSample]) -> None:
        """Write the metadata, without which the scorer stops, and the grid of whole prompts."""
        folder, request = out / group[0].request.name, group[0].request
        if not (folder / "metadata.jsonl").exists():
            assert request.metadata is not None
            (folder / "samples").mkdir(parents=True, exist_ok=True)
            write_text_atomic(folder / "metadata.jsonl", request.metadata + "\n")
        grid, samples = folder / "grid.png", self.image_paths(out, group)
        if not grid.exists() and all(path.exists() for path in samples):
            save_png(join_tiles(samples, math.ceil(math.sqrt(len(samples)))), grid)

    def image_paths(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        """One file per sample."""
        return [_path(out, sample) for sample in group]


def _path(out: Path, sample: PromptSample) -> Path:
    return out / sample.request.name / "samples" / f"{sample.index_in_prompt:04d}.png"
