"""DPG-Bench's folders of grids, with a picture for every prompt and tiles that fit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from harope.lab.evals.dpg.questions import ByItem
from harope.lab.metrics.tolerant_reader import EXTENSIONS, TolerantReader, pixels

COLUMNS = 2
MOST_TILES = 4


def read_dpg_folder(folder: Path, items: ByItem) -> dict[str, str]:
    """File names by item, in the order of the questions; hidden files are passed over.

    Raises ValueError for a folder of another layout, a picture of no item, an item without picture.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: pass one of `harope sample --dpg`")
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() or path.suffix.lower() not in EXTENSIONS:
            raise ValueError(
                f"{path} is no picture: DPG-Bench's folder holds pictures alone, named as the "
                f"prompts; pass a folder of `harope sample --dpg`"
            )
        item = path.name.split(".")[0]
        if item in found:
            raise ValueError(f"{path} and {found[item]} are both of prompt {item}: remove one")
        found[item] = path.name
    if not found:
        raise ValueError(f"{folder} holds no picture: pass a folder of `harope sample --dpg`")
    _check_items(folder, found, items)
    return {item: found[item] for item in items}


def check_grid_sizes(
    folder: Path, names: Sequence[str], tiles: int, damage: TolerantReader
) -> None:
    """Raises ValueError naming the first picture that is no grid of so many squares of one size.

    The official script cuts squares of a stated size, and what lies outside the picture is black.
    """
    if not 1 <= tiles <= MOST_TILES:
        raise ValueError(f"samples_per_prompt {tiles} must lie in 1 .. {MOST_TILES}")
    columns, rows = _shape(tiles)
    first: tuple[str, tuple[int, int]] | None = None
    for name in names:
        if (size := damage.size(name)) is None:
            continue
        height, width = size
        if height % rows or width % columns or height // rows != width // columns:
            raise ValueError(
                f"{folder / name} is {pixels(size)}, no grid of {rows} x {columns} squares for "
                f"{tiles} samples per prompt: pass the folder's own --samples-per-prompt"
            )
        first = first or (name, size)
        if size != first[1]:
            raise ValueError(
                f"{folder / name} is {pixels(size)} but {first[0]} is {pixels(first[1])}: all "
                f"grids must have one size"
            )


def cut_tiles(
    grid: UInt8[np.ndarray, "height width 3"], tiles: int
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """The samples of a grid, left to right and then down."""
    side = grid.shape[1] // _shape(tiles)[0]
    corners = [divmod(place, COLUMNS) for place in range(tiles)]
    return [grid[y * side : (y + 1) * side, x * side : (x + 1) * side] for y, x in corners]


def _shape(tiles: int) -> tuple[int, int]:
    """Columns and rows of the grid."""
    return min(tiles, COLUMNS), -(-tiles // COLUMNS)


def _check_items(folder: Path, found: dict[str, str], items: ByItem) -> None:
    unknown = [name for item, name in found.items() if item not in items]
    if unknown:
        raise ValueError(
            f"{folder} holds {len(unknown)} pictures of prompts that the questions lack, first "
            f"{unknown[0]}: pass the table of these prompts"
        )
    missing = [item for item in items if item not in found]
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} of {len(items)} pictures, first that of prompt "
            f"{missing[0]}: complete the folder"
        )
