"""The matrices of many layers by one exponential."""

import pytest
import torch
from torch import nn

from harope.rope import basis, batched_matrices
from harope.rope.encoding import batched_regularization, stacked_matrices
from support.encoding import make, randomise

KINDS = [
    ("harope", {}),
    ("harope", {"pairing": "inverse"}),
    ("harope", {"orthogonal_map": "cayley"}),
    ("rethinking", {}),
    ("string", {}),
    ("harope", {}),
]


def layers() -> nn.ModuleList:
    made = nn.ModuleList(make(name, 2, 8, **options) for name, options in KINDS)
    randomise(made, 0.4)
    return made


def test_they_are_those_of_every_layer():
    made = layers()
    for encoding, matrices in zip(made, batched_matrices(list(made)), strict=True):
        torch.testing.assert_close(matrices, encoding.matrices(), rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_every_layer():
    made = layers()
    grads = []
    for matrices in (batched_matrices(list(made)), [encoding.matrices() for encoding in made]):
        total = sum((q * k.cos()).sum() for q, k in matrices)
        grads.append(torch.autograd.grad(total, [p for e in made for p in e.basis.parameters()]))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-6)


@pytest.fixture
def exponentials(monkeypatch) -> list[torch.Size]:
    """The shape of every matrix that is exponentiated."""
    shapes, compute = [], basis.skew_exp
    monkeypatch.setattr(basis, "skew_exp", lambda skew: shapes.append(skew.shape) or compute(skew))
    return shapes


def test_there_is_one_exponential_for_all_layers_and_heads(exponentials):
    made = nn.ModuleList(make("harope", 3, 8) for _ in range(5))
    batched_matrices(list(made))
    assert exponentials == [(5 * 2 * 3, 8, 8)]


def test_encodings_without_generators_are_left_to_themselves():
    made = [make(name, 2, 8) for name in ("none", "ape", "axial", "mixed", "string-circulant")]
    made.append(make("harope", 2, 8, basis="free"))
    assert batched_matrices(made) == [None] * 6


def test_without_gradient_every_layer_computes_its_own(exponentials):
    with torch.no_grad():
        assert batched_matrices([make("harope", 2, 8)]) == [None]
    assert exponentials == []


def test_flat_pieces_of_sharded_parameters_are_left_to_their_layers():
    whole, sharded = make("harope", 2, 8), make("harope", 2, 8)
    sharded.basis.skew_u = nn.Parameter(sharded.basis.skew_u.flatten()[:7])
    matrices = batched_matrices([whole, sharded])
    assert matrices[0] is not None
    assert matrices[1] is None


def test_layers_of_one_kind_are_stacked():
    made = nn.ModuleList(make("harope", 2, 8) for _ in range(3))
    randomise(made, 0.4)
    stacked = stacked_matrices(list(made))
    expected = [torch.cat(parts) for parts in zip(*batched_matrices(list(made)), strict=True)]
    torch.testing.assert_close(list(stacked), expected)
    assert stacked_matrices([*made, make("axial", 2, 8)]) is None
    assert stacked_matrices([make("axial", 2, 8)]) is None


def test_the_penalty_of_all_layers_is_the_sum_of_theirs():
    made = [
        *layers(),
        make("axial", 2, 8),
        make("harope", 3, 8),
        make("harope", 2, 8, basis="free"),
    ]
    randomise(made[-2], 0.4)
    penalties = [encoding.regularization() for encoding in made]
    expected = sum(penalty for penalty in penalties if penalty is not None)
    torch.testing.assert_close(batched_regularization(made), expected)
    assert batched_regularization([make("axial", 2, 8)]) is None
