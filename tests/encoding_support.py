"""Encodings, positions and queries drawn at random, for the tests of more than one folder."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from harope.rope import (
    PositionalEncoding,
    RotaryEncoding,
    create_encoding,
    grid_positions,
    list_encodings,
)

ABSOLUTE = ("ape", "ape-learned")
ROTARY = tuple(name for name in list_encodings() if name not in ("none", *ABSOLUTE))
FREQUENCIES = ("raster", "axial", "mixed", "video", "circulant")
BASES = ("identity", "diagonal", "orthogonal", "svd", "free", "fourier")
INVERTIBLE = ("diagonal", "orthogonal", "svd", "free")


@torch.no_grad()
def randomise(module: nn.Module, spread: float = 0.2) -> nn.Module:
    """Move all parameters away from their initial values."""
    for parameter in module.parameters():
        parameter.add_(spread * torch.randn_like(parameter))
    return module


def make(name: str, num_heads: int = 2, head_dim: int = 12, **options: Any) -> PositionalEncoding:
    """An encoding with random parameters; a learned embedding spans 4 places per axis."""
    if name == "ape-learned":
        options.setdefault("grid_sizes", (4,) * options.get("num_axes", 2))
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
    return float(q.double().norm(dim=-1).max() * k.double().norm(dim=-1).max())


@st.composite
def rotary_encodings(draw: st.DrawFn, **fixed: Any) -> RotaryEncoding:
    """Any preset or any combination of frequencies and basis, with random parameters.

    `fixed` names options of EncodingConfig that must have a value.
    """
    frequencies = fixed.get("frequencies") or draw(st.sampled_from(FREQUENCIES))
    num_axes = draw(st.integers(2 if frequencies == "video" else 1, 3))
    options = {
        "basis": st.sampled_from(BASES),
        "theta": st.sampled_from([10.0, 100.0, 10000.0]),
        "learned_frequencies": st.booleans(),
        "per_head": st.booleans(),
        "pairing": st.sampled_from(["same", "inverse"]),
        "orthogonal_map": st.sampled_from(["exp", "cayley"]),
        "layout": st.sampled_from(["interleaved", "half"]),
    }
    drawn = draw(st.fixed_dictionaries({k: v for k, v in options.items() if k not in fixed}))
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    return make(
        "harope",
        num_heads=draw(st.integers(1, 3)),
        head_dim=2 * num_axes * draw(st.integers(1, 3)),
        num_axes=num_axes,
        **{"frequencies": frequencies, **drawn, **fixed},
    )


@st.composite
def presets(draw: st.DrawFn, names: tuple[str, ...] = ROTARY) -> PositionalEncoding:
    """One of the named presets, with random parameters."""
    name = draw(st.sampled_from(names))
    num_axes = draw(st.integers(2 if name == "video" else 1, 3))
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    return make(
        name,
        num_heads=draw(st.integers(1, 3)),
        head_dim=2 * num_axes * draw(st.integers(1, 3)),
        num_axes=num_axes,
    )


@st.composite
def grids(draw: st.DrawFn, num_axes: int) -> Tensor:
    """Positions of a small grid, anywhere on the integers, in any order."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=num_axes, max_size=num_axes))
    corner = draw(st.lists(st.integers(-20, 20), min_size=num_axes, max_size=num_axes))
    positions = grid_positions(*sizes) + torch.tensor(corner)
    return positions[torch.randperm(len(positions))]
