"""DPG-Bench's folder format, written and read: one grid of samples per prompt.

`dpg_bench/compute_dpg_bench.py` of github.com/TencentQQGYLab/ELLA opens every file of the folder as
an image and matches it to a prompt by its name up to the first dot. It cuts `--pic-num` squares of
`--resolution` pixels from the image, left to right and then down, and silently leaves images that
it cannot read out of the mean. The folder must therefore hold complete grids only. Single samples
and the manifest are kept in the neighbouring folder `NAME.work`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from harope.lab.data.image_files import EXTENSIONS
from harope.lab.data.image_io import save_png
from harope.lab.evals.dpg.questions import ByItem
from harope.lab.metrics.tolerant_reader import TolerantReader, format_size
from harope.lab.sampling.prompt_folder import MANIFEST_FILE, PromptSample, join_tiles
from harope.lab.sampling.stored_samples import is_complete_png

GRID_COLUMNS = 2
GRID_FILE = "grid.png"
MAX_TILES = 4


@dataclass(frozen=True)
class DPGFolder:
    """Folder format for the requests of `read_dpg`; four samples per prompt are official."""

    name = "dpg"
    joins_samples = True

    def manifest(self, out: Path) -> Path:
        return _work(out) / MANIFEST_FILE

    def sample_files(self, out: Path, sample: PromptSample) -> list[Path]:
        return [_grid(out, sample), _tile(out, sample)]

    def save(self, out: Path, sample: PromptSample, image: UInt8[Tensor, "height width 3"]) -> None:
        """Write one sample as a tile.

        Args:
            out: Folder of the grids.
            sample: The sample.
            image: RGB image of the sample.

        Raises:
            ValueError: If the image is not square.
        """
        height, width, _ = image.shape
        if height != width:
            raise ValueError(
                f"The images are {height} x {width} but DPG-Bench's scorer cuts squares: pass "
                f"one number as height and width"
            )
        save_png(image, _tile(out, sample))

    def finish_prompt(self, out: Path, group: Sequence[PromptSample]) -> None:
        """Join the tiles of a prompt into its grid once all exist, and delete them.

        Args:
            out: Folder of the grids.
            group: All samples of the prompt.
        """
        tiles, grid = [_tile(out, sample) for sample in group], _grid(out, group[0])
        if not is_complete_png(grid) and all(map(is_complete_png, tiles)):
            # Not written to `out`, where the scorer would read an unfinished file.
            joined = tiles[0].with_name(GRID_FILE)
            save_png(join_tiles(tiles, min(len(tiles), GRID_COLUMNS)), joined)
            joined.replace(grid)
        if is_complete_png(grid):
            shutil.rmtree(tiles[0].parent, ignore_errors=True)

    def image_paths(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        return [_grid(out, group[0])]

    def prompt_files(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        tiles = [_tile(out, sample) for sample in group]
        return [_grid(out, group[0]), *tiles, tiles[0].with_name(GRID_FILE)]


def read_dpg_folder(folder: Path, items: ByItem) -> dict[str, str]:
    """Match the grids of a folder to the prompts; hidden files are ignored.

    Args:
        folder: Output of `harope sample --dpg`.
        items: Questions of every prompt.

    Returns:
        File names by item, in the order of the questions.

    Raises:
        ValueError: If the folder has another format, a grid has no prompt, or a prompt no grid.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: pass one of `harope sample --dpg`")
    names: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() or path.suffix.lower() not in EXTENSIONS:
            raise ValueError(
                f"{path} is not an image: DPG-Bench's folder holds only images named after the "
                f"prompts; pass a folder of `harope sample --dpg`"
            )
        item = path.name.split(".")[0]
        if item in names:
            raise ValueError(f"{path} and {names[item]} both belong to prompt {item}: remove one")
        names[item] = path.name
    if not names:
        raise ValueError(f"{folder} holds no image: pass a folder of `harope sample --dpg`")
    _check_items(folder, names, items)
    return {item: names[item] for item in items}


def check_grid_sizes(
    folder: Path, names: Sequence[str], tiles: int, reader: TolerantReader
) -> None:
    """Check that all images are grids of `tiles` equal squares, and of one size.

    The official script cuts squares of a fixed size; what lies outside the image is black.

    Args:
        folder: Folder of the images.
        names: File names in it.
        tiles: Samples per prompt.
        reader: Reads the sizes; images that it skips are not checked.

    Raises:
        ValueError: Naming the first image that does not fit.
    """
    if not 1 <= tiles <= MAX_TILES:
        raise ValueError(f"samples_per_prompt {tiles} must lie in 1 .. {MAX_TILES}")
    columns, rows = _shape(tiles)
    first: tuple[str, tuple[int, int]] | None = None
    for name in names:
        if (size := reader.size(name)) is None:
            continue
        height, width = size
        if height % rows or width % columns or height // rows != width // columns:
            raise ValueError(
                f"{folder / name} is {format_size(size)}, which is not a grid of {rows} x "
                f"{columns} squares for {tiles} samples per prompt: pass the folder's own "
                f"--samples-per-prompt"
            )
        first = first or (name, size)
        if size != first[1]:
            raise ValueError(
                f"{folder / name} is {format_size(size)} but {first[0]} is "
                f"{format_size(first[1])}: all grids must have one size"
            )


def cut_tiles(
    grid: UInt8[np.ndarray, "height width 3"], tiles: int
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Cut a grid into its samples, left to right and then down.

    Args:
        grid: RGB image of `check_grid_sizes`' proportions.
        tiles: Number of samples in it.

    Returns:
        The samples, all squares of one size.
    """
    side = grid.shape[1] // _shape(tiles)[0]
    corners = [divmod(place, GRID_COLUMNS) for place in range(tiles)]
    return [grid[y * side : (y + 1) * side, x * side : (x + 1) * side] for y, x in corners]


def _shape(tiles: int) -> tuple[int, int]:
    """Return the number of columns and rows of a grid."""
    return min(tiles, GRID_COLUMNS), -(-tiles // GRID_COLUMNS)


def _check_items(folder: Path, names: dict[str, str], items: ByItem) -> None:
    unknown = [name for item, name in names.items() if item not in items]
    if unknown:
        raise ValueError(
            f"{folder} contains {len(unknown)} images of prompts without questions, first "
            f"{unknown[0]}: pass the questions of these prompts"
        )
    missing = [item for item in items if item not in names]
    if missing:
        raise ValueError(
            f"{folder} is missing {len(missing)} of {len(items)} images, first that of prompt "
            f"{missing[0]}: complete the folder"
        )


def _work(out: Path) -> Path:
    out = out.resolve()
    return out.with_name(f"{out.name}.work")


def _tile(out: Path, sample: PromptSample) -> Path:
    return _work(out) / sample.request.name / f"{sample.index_in_prompt}.png"


def _grid(out: Path, sample: PromptSample) -> Path:
    return out / f"{sample.request.name}.png"
