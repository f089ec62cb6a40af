"""Queries and keys turned by every encoding, and a model at another size than the trained one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import harope
from support.golden import assert_same, read_numbers, seeded, summary
from support.host import normal, own

TOPIC = "encodings"

HAROPE = {
    f"harope {pairing} {basis} {frequencies}": {
        "basis": basis,
        "frequencies": frequencies,
        # Both pairings of an orthogonal basis are the same, so it takes none.
        **({} if basis == "orthogonal" else {"pairing": pairing}),
    }
    for pairing in ("same", "inverse")
    for basis in ("svd", "diagonal", "free", "orthogonal")
    for frequencies in ("axial", "mixed", "raster")
}
OTHERS: dict[str, dict[str, Any]] = {
    "none": {},
    "ape": {},
    "ape-learned": {"grid_sizes": (3, 4)},
    "rope": {},
    "axial": {},
    "mixed": {},
    "rethinking": {},
    "string": {},
    "string-circulant": {},
    "axial-learned": {},
    "harope-v1": {},
    "axial half": {"layout": "half"},
    "harope half": {"layout": "half", "pairing": "inverse"},
    "harope cayley": {"orthogonal_map": "cayley", "pairing": "inverse"},
    "harope shared": {"per_head": False, "pairing": "same"},
    **{
        name: {}
        for name in ("mixed-orthogonal", "partial", "dinov3", "golden", "spiral", "simplex")
    },
    **{name: {} for name in ("comrope-ap", "comrope-ld", "liere", "mrope", "mrope-interleaved")},
    **{name: {} for name in ("mm-rope", "mhrope")},
}
SCALED = ("extrapolate", "interpolate", "ntk", "yarn")
CASES = (*HAROPE, *OTHERS, "video", *(f"scaled {method}" for method in SCALED))


@torch.no_grad()
def move(module: nn.Module) -> None:
    """Parameters of the encodings away from their start."""
    generator = torch.Generator().manual_seed(2)
    for parameter in harope.encoding_parameters(module):
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def numbers(case: str, folder: Path) -> dict[str, Any]:
    """What the case computes on fixed inputs."""
    name, _, rest = case.partition(" ")
    if name == "scaled":
        return {"output": summary(scaled(rest))}
    axes, positions = 2, harope.grid_positions(3, 4)
    if name == "video":
        axes, positions = 3, harope.video_positions(2, 2, 3)
    options = (HAROPE | OTHERS).get(case, {})
    with seeded():
        encoding = harope.create_encoding(name, num_heads=2, head_dim=16, num_axes=axes, **options)
    move(encoding)
    shape = (2, 2, len(positions), 16)
    q, k = encoding(normal(*shape), normal(*shape, seed=1), positions)
    added, penalty = encoding.embed(positions), encoding.regularization()
    found = {"q": q, "k": k, "added": added, "penalty": penalty and penalty.expand(2)}
    return {name: summary(value) for name, value in found.items() if value is not None}


def scaled(method: str) -> torch.Tensor:
    """A diffusion transformer's output on twice the grid that it was trained at."""
    model = own("harope", pairing="inverse")
    move(model)
    harope.set_scaling(model, method, sizes=(8, 6), train_sizes=(4, 4))
    return model(normal(2, 4, 16, 12), torch.tensor([3.0, 500.0]), torch.tensor([1, 2]))


@pytest.mark.parametrize("case", CASES)
def test_encodings_give_the_pinned_numbers(case, tmp_path):
    assert_same(numbers(case, tmp_path), read_numbers(TOPIC)[case], 2e-5)


def test_every_encoding_is_pinned():
    assert {case.split()[0] for case in CASES} == {"scaled", *harope.list_encodings()}
