"""HARoPE whose matrices depend on the condition of a sample."""

import pytest
import torch

from harope import DiT
from harope.models.dit.fold import fold
from harope.rope import RotaryEncoding, create_encoding, grid_positions
from support.encoding import randomise, scores

SHAPE = {"num_heads": 2, "head_dim": 8}
WIDTH = 6
DIT = {"depth": 2, "width": 16, "num_heads": 2, "patch_size": 2, "in_channels": 3, "num_classes": 4}


def make(**options) -> RotaryEncoding:
    torch.manual_seed(0)
    encoding = create_encoding(
        "harope", basis="svd-conditional", condition_dim=WIDTH, **SHAPE, **options
    )
    randomise(encoding)
    return encoding


def dit(**options) -> DiT:
    torch.manual_seed(0)
    model = DiT(encoding="harope", encoding_options={"basis": "svd-conditional"}, **DIT, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def encode(encoding, q, k, positions, condition):
    matrices = encoding.matrices(condition)
    mapped = [x @ matrix.mT for x, matrix in zip((q, k), matrices, strict=True)]
    return encoding.rotate(*mapped, encoding.rotation_table(positions))


@pytest.mark.parametrize("pairing", ["same", "inverse"])
def test_the_matrices_are_those_of_the_formula(pairing):
    encoding = make(pairing=pairing)
    basis, condition = encoding.basis, torch.randn(3, WIDTH)
    pair = encoding.matrices(condition)
    change = torch.nn.functional.silu(condition) @ basis.condition_weight.T
    u, v = (torch.matrix_exp(skew) for skew in (_skew(basis.skew_u), _skew(basis.skew_v)))
    for sample in range(3):
        scale = torch.nn.functional.softplus(basis.raw_scale) * change[sample].view(2, 8).exp()
        other = 1 / scale if pairing == "inverse" else scale
        for ours, values in zip(pair, (scale, other), strict=True):
            expected = u @ torch.diag_embed(values) @ v.mT
            torch.testing.assert_close(ours[sample], expected, rtol=1e-4, atol=1e-5)


def _skew(entries):
    row, column = torch.triu_indices(8, 8, 1)
    upper = torch.zeros(len(entries), 8, 8)
    upper[:, row, column] = entries
    return upper - upper.mT


def test_it_starts_at_the_identity_whatever_the_condition():
    encoding = create_encoding("harope", basis="svd-conditional", condition_dim=WIDTH, **SHAPE)
    for matrix in encoding.matrices(torch.randn(3, WIDTH)):
        torch.testing.assert_close(matrix, torch.eye(8).expand(3, 2, 8, 8), atol=1e-6, rtol=0)


def test_scores_depend_on_offsets_alone():
    encoding = make()
    q, k = torch.randn(2, 3, 2, 9, 8)
    positions, condition = grid_positions(3, 3), torch.randn(3, WIDTH)
    here = scores(*encode(encoding, q, k, positions, condition))
    there = scores(*encode(encoding, q, k, positions + 7, condition))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-3)
    other = scores(*encode(encoding, q, k, positions, -condition))
    assert not torch.allclose(here, other, atol=0.1)


def test_reference_matrices_are_those_of_a_zero_condition():
    encoding = make()
    expected = encoding.matrices(torch.zeros(1, WIDTH))
    for ours, matrix in zip(encoding.reference_matrices(), expected, strict=True):
        assert torch.equal(ours, matrix[0])


@pytest.mark.parametrize("qk_norm", [False, True])
def test_every_sample_of_a_dit_has_matrices_of_its_own(qk_norm):
    model = dit(qk_norm=qk_norm)
    x, t, y = torch.randn(3, 3, 8, 8), torch.tensor([10.0, 500.0, 900.0]), torch.tensor([0, 1, 3])
    with torch.no_grad():
        together = model(x, t, y)
        alone = torch.cat([model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_dit_trains_the_condition_with_both_ways_of_saving_memory():
    x, t, y = torch.randn(2, 3, 8, 8), torch.tensor([10.0, 500.0]), torch.tensor([0, 1])
    gradients = []
    for checkpointing in (False, True):
        model = dit().train()
        model.gradient_checkpointing = checkpointing
        model(x, t, y, drop_labels=torch.zeros(2, dtype=torch.bool)).square().mean().backward()
        gradients.append(model.layers[1].attn.harope.basis.condition_weight.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


def test_a_dit_is_saved_and_loaded(tmp_path):
    model = dit()
    model.save_pretrained(tmp_path)
    loaded = DiT.from_pretrained(tmp_path).eval()
    x, t, y = torch.randn(1, 3, 8, 8), torch.tensor([10.0]), torch.tensor([2])
    with torch.no_grad():
        assert torch.equal(loaded(x, t, y), model(x, t, y))


def test_what_depends_on_a_condition_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="needs condition_dim, the channels of the model's"):
        create_encoding("harope", basis="svd-conditional", **SHAPE)
    encoding = make()
    q, k = torch.randn(2, 1, 2, 4, 8)
    with pytest.raises(ValueError, match="depends on the model's condition, and none was given"):
        encoding(q, k, grid_positions(2, 2))
    with pytest.raises(ValueError, match=r"shape \(1, 3\), but the basis is for \(batch, 6\)"):
        encoding.matrices(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="depends on the condition of every sample, so it cannot"):
        fold(dit())
