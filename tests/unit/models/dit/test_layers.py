"""Attention: the basis met by the tokens or by the weights."""

import pytest
import torch
from torch import nn

from harope.models.dit import layers as layers_module
from harope.models.dit.layers import Attention, PositionInputs
from harope.rope import PositionalEncoding, grid_positions
from support.encoding import make, randomise

WIDTH = 24
BASES = [
    {"basis": "svd"},
    {"basis": "svd", "pairing": "same"},
    {"basis": "svd", "per_head": False},
    {"basis": "orthogonal", "orthogonal_map": "cayley"},
    {"basis": "free"},
    {"basis": "diagonal"},
    {"frequencies": "circulant", "basis": "fourier"},
]


def attention(encoding: PositionalEncoding) -> Attention:
    torch.manual_seed(1)
    module = Attention(WIDTH, encoding).double()
    randomise(module.qkv, 0.1)
    return module


def by_definition(module: Attention, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Softmax attention over q and k that went through the encoding, with one more Linear."""
    batch, tokens, _ = x.shape
    qkv = nn.functional.linear(x, module.qkv.weight, module.qkv.bias)
    q, k, v = qkv.view(batch, tokens, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = module.harope(q, k, positions)
    weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    return module.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, -1))


@pytest.mark.parametrize("name", ["none", "axial", "mixed", "harope", "string-circulant"])
def test_attention_is_softmax_of_encoded_queries_and_keys(name):
    module = attention(make(name, 2, WIDTH // 2))
    positions, x = grid_positions(2, 3).double(), torch.randn(2, 6, WIDTH, dtype=torch.float64)
    expected = by_definition(module, x, positions)
    torch.testing.assert_close(module(x, PositionInputs(positions)), expected)


@pytest.mark.parametrize(
    ("batch", "folds"), [(1, False), (3, False), (4, True), (9, True)], ids=str
)
def test_the_basis_folds_from_as_many_tokens_as_channels(batch, folds, monkeypatch):
    module = attention(make("harope", 2, WIDTH // 2))
    seen = []
    # 6 tokens a sample: 4 samples have the 24 tokens that equal the width.
    x = torch.randn(batch, 6, WIDTH, dtype=torch.float64)
    plain = layers_module.folded_linear
    monkeypatch.setattr(
        layers_module, "folded_linear", lambda *args: seen.append(1) or plain(*args)
    )
    module(x, PositionInputs(grid_positions(2, 3)))
    assert bool(seen) == folds


@pytest.mark.parametrize("options", BASES, ids=str)
def test_folded_equals_token_space_in_values_and_gradients(options, monkeypatch):
    module = attention(make("harope", 2, WIDTH // 2, **options))
    positions = grid_positions(2, 3)
    x = torch.randn(4, 6, WIDTH, dtype=torch.float64, requires_grad=True)
    parameters = [x, *module.parameters()]
    results = []
    for folds in (True, False):
        monkeypatch.setattr(module, "_folds", lambda _, folds=folds: folds)
        out = module(x, PositionInputs(positions))
        weighted = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
        results.append([out, *torch.autograd.grad(weighted, parameters)])
    torch.testing.assert_close(*results)


class LowRank(nn.Module):
    """A Linear with a low-rank update, as adapters wrap it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False, dtype=torch.float64)
        self.up = nn.Linear(2, base.out_features, bias=False, dtype=torch.float64)

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight

    @property
    def bias(self) -> torch.Tensor:
        return self.base.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x))


class Subclass(nn.Linear):
    """A Linear that does something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def wrapped(module: Attention) -> None:
    module.qkv = LowRank(module.qkv)


def subclassed(module: Attention) -> None:
    module.qkv.__class__ = Subclass


def forward_hook(module: Attention) -> None:
    module.qkv.register_forward_hook(lambda linear, args, out: 2 * out)


def forward_pre_hook(module: Attention) -> None:
    module.qkv.register_forward_pre_hook(lambda linear, args: (2 * args[0],))


def replaced_forward(module: Attention) -> None:
    plain = module.qkv.forward
    module.qkv.forward = lambda x: 2 * plain(x)


@pytest.mark.parametrize(
    "change", [wrapped, subclassed, forward_hook, forward_pre_hook, replaced_forward]
)
def test_a_projection_that_is_more_than_a_linear_is_called(change):
    module = attention(make("harope", 2, WIDTH // 2))
    positions = grid_positions(2, 3)
    x = torch.randn(8, 6, WIDTH, dtype=torch.float64)
    places = PositionInputs(positions)
    change(module)
    together = module(x, places)
    # One sample at a time is below the threshold of folding.
    alone = torch.cat([module(sample[None], places) for sample in x])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("register", ["full_backward_hook", "full_backward_pre_hook"])
def test_backward_hooks_of_the_projection_run(register):
    module = attention(make("harope", 2, WIDTH // 2))
    seen = []
    getattr(module.qkv, f"register_{register}")(lambda *args: seen.append(1))
    x = torch.randn(8, 6, WIDTH, dtype=torch.float64, requires_grad=True)
    module(x, PositionInputs(grid_positions(2, 3))).sum().backward()
    assert seen == [1]


def test_a_parametrized_projection_uses_the_weights_it_computes():
    module = attention(make("harope", 2, WIDTH // 2))
    places = PositionInputs(grid_positions(2, 3))
    x = torch.randn(8, 6, WIDTH, dtype=torch.float64)
    nn.utils.parametrizations.weight_norm(module.qkv)
    with torch.no_grad():
        module.qkv.parametrizations.weight.original0.mul_(2)
    together = module(x, places)
    alone = torch.cat([module(sample[None], places) for sample in x])
    torch.testing.assert_close(together, alone)


def test_folding_in_bfloat16_stays_near_float64():
    module = attention(make("harope", 2, WIDTH // 2)).bfloat16()
    x = torch.randn(8, 6, WIDTH).bfloat16()
    positions = grid_positions(2, 3)
    ours = module(x, PositionInputs(positions))
    assert ours.dtype == torch.bfloat16
    exact = by_definition(module.double(), x.double(), positions.double())
    error = (ours.double() - exact).norm() / exact.norm()
    assert error < 2**-6


# --- QK-norm


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x over the root of its mean square, times the weight."""
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


@pytest.mark.parametrize("name", ["none", "axial", "mixed", "harope", "harope-v1"])
def test_qk_norm_stands_between_projection_and_encoding(name):
    torch.manual_seed(1)
    module = Attention(WIDTH, make(name, 2, WIDTH // 2), qk_norm=True).double()
    randomise(module, 0.3)
    positions, x = grid_positions(2, 3).double(), torch.randn(2, 6, WIDTH, dtype=torch.float64)
    q, k, v = module.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    q, k = rms(q, module.q_norm.weight), rms(k, module.k_norm.weight)
    q, k = module.harope(q, k, positions)
    weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    expected = module.proj((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x, PositionInputs(positions)), expected)


def test_qk_norm_keeps_the_basis_off_the_weights(monkeypatch):
    module = Attention(WIDTH, make("harope", 2, WIDTH // 2), qk_norm=True)
    monkeypatch.setattr(layers_module, "folded_linear", None)
    module(torch.randn(9, 6, WIDTH), PositionInputs(grid_positions(2, 3)))
    assert not module.is_bare


def test_qk_norm_runs_under_autocast():
    module = Attention(WIDTH, make("harope", 2, WIDTH // 2), qk_norm=True)
    positions, x = grid_positions(2, 3), torch.randn(2, 6, WIDTH)
    expected = module(x, PositionInputs(positions))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(x, PositionInputs(positions))
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
