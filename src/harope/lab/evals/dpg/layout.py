"""DPG-Bench's folder: one picture per prompt with the prompt's stem, its samples in a grid.

As `dpg_bench/compute_dpg_bench.py` of github.com/TencentQQGYLab/ELLA reads it: whatever lies in the
folder is opened as a picture and matched by its name up to the first dot; of it the squares of
`--resolution` are cut, left to right and then down, `--pic-num` of them. What it cannot read it
leaves out of the mean. So nothing but whole pictures lies there; samples wait, and the manifest
stays, in the folder's neighbour `NAME.work`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from harope.lab.data.image_io import save_png
from harope.lab.sampling.prompt_folder import MANIFEST_FILE, PromptSample, join_tiles

GRID_COLUMNS = 2


@dataclass(frozen=True)
class DPGFolder:
    """Requests of `read_dpg`; four samples per prompt make the official 2 x 2 grid."""

    joins_samples = True

    def manifest(self, out: Path) -> Path:
        """In the neighbouring folder."""
        return _work(out) / MANIFEST_FILE

    def has(self, out: Path, sample: PromptSample) -> bool:
        """Whether the prompt's grid is there, or the sample waits for it."""
        return _grid(out, sample).exists() or _tile(out, sample).exists()

    def save(self, out: Path, sample: PromptSample, image: UInt8[Tensor, "height width 3"]) -> None:
        """Write the picture to where it waits. Raises ValueError when it is not square."""
        height, width, _ = image.shape
        if height != width:
            raise ValueError(
                f"the pictures are {height} x {width} but DPG-Bench's scorer cuts squares: pass "
                f"one number as height and width"
            )
        save_png(image, _tile(out, sample))

    def finish_prompt(self, out: Path, group: Sequence[PromptSample]) -> None:
        """Join the samples when all are there, and drop them."""
        tiles, grid = [_tile(out, sample) for sample in group], _grid(out, group[0])
        if not grid.exists() and all(tile.exists() for tile in tiles):
            whole = tiles[0].with_name("grid.png")
            save_png(join_tiles(tiles, min(len(tiles), GRID_COLUMNS)), whole)
            whole.rename(grid)
        if grid.exists():
            shutil.rmtree(tiles[0].parent, ignore_errors=True)

    def image_paths(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        """One file."""
        return [_grid(out, group[0])]


def _work(out: Path) -> Path:
    out = out.resolve()
    return out.with_name(f"{out.name}.work")


def _tile(out: Path, sample: PromptSample) -> Path:
    return _work(out) / sample.request.name / f"{sample.index_in_prompt}.png"


def _grid(out: Path, sample: PromptSample) -> Path:
    return out / f"{sample.request.name}.png"
