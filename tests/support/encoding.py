"""Encodings, positions and queries drawn at random, for the tests of more than one folder.

Strategies draw descriptions, and the tests build from them: torch is seeded on the way.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from harope.rope import PositionalEncoding, create_encoding, grid_positions, list_encodings

ABSOLUTE = ("ape", "ape-learned")
ROTARY = tuple(name for name in list_encodings() if name not in ("none", *ABSOLUTE))
FREQUENCIES = ("raster", "axial", "mixed", "video", "circulant")
INVERTIBLE = ("diagonal", "orthogonal", "svd", "free")
PAIRED = ("diagonal", "svd", "free")
GENERATED = ("orthogonal", "svd")
ISOMETRIC = ("identity", "orthogonal", "fourier")

Maker = Callable[[], PositionalEncoding]
Grid = Callable[[int], Tensor]


@torch.no_grad()
def randomise(module: nn.Module, spread: float = 0.2) -> None:
    """Move all parameters away from their initial values."""
    for parameter in module.parameters():
        parameter.add_(spread * torch.randn_like(parameter))


def make(
    name: str, num_heads: int = 2, head_dim: int = 12, *, seed: int = 0, **options: Any
) -> PositionalEncoding:
    """An encoding with random parameters; a learned embedding spans 4 places per axis."""
    if name == "ape-learned":
        options.setdefault("grid_sizes", (4,) * options.get("num_axes", 2))
    torch.manual_seed(seed)
    encoding = create_encoding(name, num_heads=num_heads, head_dim=head_dim, **options)
    randomise(encoding)
    return encoding


def queries(encoding: PositionalEncoding, tokens: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Standard normal q and k."""
    q, k = torch.randn(2, batch, encoding.num_heads, tokens, encoding.head_dim)
    return q, k


def scores(q: Tensor, k: Tensor) -> Tensor:
    """All q . k, in float64."""
    return q.double() @ k.double().mT


def norms(q: Tensor, k: Tensor) -> float:
    """The largest |q| |k|, to which rounding errors of scores are proportional."""
    return (q.double().norm(dim=-1).max() * k.double().norm(dim=-1).max()).item()


@st.composite
def presets(draw: st.DrawFn, names: tuple[str, ...] = ROTARY) -> Maker:
    """One of the named presets, over 1 to 3 axes."""
    name = draw(st.sampled_from(names))
    return _maker(draw, name, least_axes=2 if name == "video" else 1)


@st.composite
def combinations(draw: st.DrawFn, bases: tuple[str, ...], **fixed: Any) -> Maker:
    """Any combination of frequencies with one of the bases, other options drawn or `fixed`."""
    frequencies, basis = draw(st.sampled_from(FREQUENCIES)), draw(st.sampled_from(bases))
    options: dict[str, Any] = {"theta": draw(st.sampled_from([10.0, 100.0, 10000.0]))}
    if frequencies == "axial":
        options["learned_frequencies"] = draw(st.booleans())
    if basis in INVERTIBLE:
        options["per_head"] = draw(st.booleans())
    if basis in PAIRED:
        options["pairing"] = draw(st.sampled_from(["same", "inverse"]))
    if basis in GENERATED:
        options["orthogonal_map"] = draw(st.sampled_from(["exp", "cayley"]))
    if basis != "fourier":
        options["layout"] = draw(st.sampled_from(["interleaved", "half"]))
    options |= {name: value for name, value in fixed.items() if name in options}
    least_axes = 2 if frequencies == "video" else 1
    return _maker(draw, "harope", least_axes, frequencies=frequencies, basis=basis, **options)


def _maker(draw: st.DrawFn, name: str, least_axes: int, **options: Any) -> Maker:
    num_axes = draw(st.integers(least_axes, 3))
    return partial(
        make,
        name,
        num_heads=draw(st.integers(1, 3)),
        head_dim=2 * num_axes * draw(st.integers(1, 3)),
        num_axes=num_axes,
        seed=draw(st.integers(0, 2**32 - 1)),
        **options,
    )


any_rotary = st.one_of(presets(), combinations((*INVERTIBLE, *ISOMETRIC)))


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Positions of a small grid, anywhere on the integers and in any order, for n axes."""
    sizes = draw(st.tuples(*[st.integers(1, 4)] * 3))
    corner = draw(st.tuples(*[st.integers(-20, 20)] * 3))
    return partial(_grid, sizes, corner)


def _grid(sizes: tuple[int, ...], corner: tuple[int, ...], num_axes: int) -> Tensor:
    positions = grid_positions(*sizes[:num_axes]) + torch.tensor(corner[:num_axes])
    return positions[torch.randperm(len(positions))]
