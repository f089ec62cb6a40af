"""Positions that are given to the diffusion transformer by its caller."""

import pytest
import torch

from harope import DiT, DiTConfig, grid_positions, list_encodings
from support.encoding import randomise

TINY = DiTConfig(depth=2, width=16, num_heads=2, patch_size=2, num_classes=5)
OPTIONS = {"ape-learned": {"grid_sizes": (4, 4)}, "spiral": {"num_directions": 2}}
"""Options for heads of 8 or 16 channels."""


def inputs() -> tuple[torch.Tensor, ...]:
    """Two images of 4 x 4 tokens, their times and labels."""
    torch.manual_seed(7)
    return torch.randn(2, 4, 8, 8), 1000 * torch.rand(2), torch.arange(2)


def model_at_work(encoding: str) -> DiT:
    torch.manual_seed(5)
    model = DiT(TINY, encoding=encoding, encoding_options=OPTIONS.get(encoding, {})).eval()
    with torch.no_grad():
        randomise(model)
    return model


@pytest.mark.parametrize("encoding", list_encodings())
def test_positions_default_to_the_grid(encoding):
    model, (x, t, y) = model_at_work(encoding), inputs()
    with torch.no_grad():
        expected = model(x, t, y)
        assert torch.equal(model(x, t, y, grid_positions(4, 4)), expected)
        batched = model(x, t, y, positions=grid_positions(4, 4).expand(2, -1, -1))
    torch.testing.assert_close(batched, expected)


@pytest.mark.parametrize("encoding", list_encodings())
def test_every_sample_of_a_batch_may_have_its_own_positions(encoding):
    model, (x, t, y) = model_at_work(encoding), inputs()
    positions = torch.stack([grid_positions(4, 4), 2 * grid_positions(4, 4) + 3])
    with torch.no_grad():
        together = model(x, t, y, positions)
        for i in range(2):
            alone = model(x[i : i + 1], t[i : i + 1], y[i : i + 1], positions[i])
            torch.testing.assert_close(together[i : i + 1], alone)
    changed = not torch.allclose(model(x, t, y)[1], together[1], atol=1e-4)
    assert changed == (encoding != "none")


def test_given_positions_of_a_permuted_input_permute_the_output():
    model, (x, t, y) = model_at_work("harope"), inputs()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    patches = x.unflatten(3, (4, 2)).unflatten(2, (4, 2)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)

    def image(patches: torch.Tensor) -> torch.Tensor:
        return patches.unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)

    assert torch.equal(image(patches), x)
    with torch.no_grad():
        moved = model(image(patches[:, order]), t, y, grid_positions(4, 4)[order])
        plain = model(x, t, y)
    moved, plain = (
        out.unflatten(3, (4, 2)).unflatten(2, (4, 2)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        for out in (moved, plain)
    )
    torch.testing.assert_close(moved, plain[:, order])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_weights_with_given_positions(checkpointing):
    model = model_at_work("harope").train()
    model.gradient_checkpointing = checkpointing
    x, t, y = inputs()
    model(x, t, y, grid_positions(4, 4) / 2).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(15, 2), (16, 3), (3, 16, 2), (1, 2, 16, 2)])
def test_positions_that_do_not_fit_the_tokens_are_refused(shape):
    message = (
        r"positions has the shape .*, but x has 2 samples of 4 x 4 tokens: pass .*\(2, 16, 2\)"
    )
    with pytest.raises(ValueError, match=message):
        DiT(TINY)(*inputs(), torch.zeros(shape))
