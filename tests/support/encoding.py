"""Encodings, positions and queries drawn at random, for the tests of more than one folder.

Strategies draw descriptions, and the tests build from them: torch is seeded on the way.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from harope.rope import (
    PositionalEncoding,
    create_encoding,
    grid_positions,
    list_encodings,
)
from harope.rope.presets import PRESETS

ABSOLUTE = ("ape", "ape-learned")
ROTARY = tuple(name for name in list_encodings() if name not in ("none", "liere", *ABSOLUTE))
"""Encodings by rotations of pairs of channels."""
COMROPE = ("comrope-ap", "comrope-ld")
FREQUENCIES = (
    *("raster", "axial", "mixed", "circulant", "golden", "spiral", "simplex", "video", "mrope"),
    *("mrope-interleaved", "mm-rope", "head-axes", "comrope-ap", "comrope-ld"),
)
USES_THETA = tuple(name for name in FREQUENCIES if name not in ("golden", *COMROPE))
PARTS = {
    name: {
        "frequencies": preset.config.frequencies,
        "basis": preset.config.basis,
        "whole": preset.config.rotary_fraction == 1,
    }
    for name, preset in PRESETS.items()
}
HEAD_DIMS = {"liere": 16, "partial": 24, "spiral": 16}
"""Channels per head in the tests, where 12 cannot be split."""
SECTIONED = ("video", "mrope", "mrope-interleaved", "mm-rope")
INVERTIBLE = ("diagonal", "orthogonal", "block-orthogonal", "svd", "free")
PAIRED = ("diagonal", "svd", "free")
GENERATED = ("orthogonal", "block-orthogonal", "svd")
ISOMETRIC = ("identity", "orthogonal", "block-orthogonal", "fourier")

Maker = Callable[[], PositionalEncoding]
Grid = Callable[[int], Tensor]


@torch.no_grad()
def randomise(module: nn.Module, spread: float = 0.2) -> None:
    """Move all parameters away from their initial values."""
    for parameter in module.parameters():
        parameter.add_(spread * torch.randn_like(parameter))


def make(
    name: str, num_heads: int = 2, head_dim: int | None = None, *, seed: int = 0, **options: Any
) -> PositionalEncoding:
    """An encoding with random parameters; a learned embedding spans 4 places per axis."""
    head_dim = head_dim or HEAD_DIMS.get(name, 12)
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
    return _maker(draw, name, **PARTS[name])


@st.composite
def combinations(draw: st.DrawFn, bases: tuple[str, ...], **fixed: Any) -> Maker:
    """Any combination of frequencies with one of the bases, other options drawn or `fixed`."""
    frequencies, basis = draw(st.sampled_from(FREQUENCIES)), draw(st.sampled_from(bases))
    options: dict[str, Any] = {}
    if frequencies != "raster":
        options["positions"] = draw(st.sampled_from(["index", "centered", "unit"]))
    if frequencies in USES_THETA:
        options["theta"] = draw(st.sampled_from([10.0, 100.0, 10000.0]))
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
    if draw(st.booleans()):
        spectra = ["own", "full"]
        if options.get("layout") == "half":
            spectra.remove("own")
        if frequencies == "golden":
            spectra.remove("full")
        if spectra:
            options |= {"rotary_fraction": 0.5, "rotary_spectrum": draw(st.sampled_from(spectra))}
    options |= {name: value for name, value in fixed.items() if name in options}
    parts = {"frequencies": frequencies, "basis": basis, "whole": "rotary_fraction" not in options}
    return partial(_maker(draw, "harope", **parts), frequencies=frequencies, basis=basis, **options)


def _maker(draw: st.DrawFn, name: str, *, frequencies: str, basis: str, whole: bool) -> Maker:
    least, most = (2, 3) if frequencies in SECTIONED else (1, 3)
    num_axes = 2 if frequencies == "spiral" else draw(st.integers(least, most))
    unit = 2 * num_axes
    if frequencies == "spiral":
        unit = 16
    elif frequencies == "simplex":
        unit = 2 * (num_axes + 1)
    elif frequencies in COMROPE or basis == "block-orthogonal":
        unit = 4 * num_axes
    if not whole:
        unit *= 2
    return partial(
        make,
        name,
        num_heads=draw(st.integers(1, 3)),
        head_dim=unit * draw(st.integers(1, 3)),
        num_axes=num_axes,
        seed=draw(st.integers(0, 2**32 - 1)),
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
