import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harope.lab.analysis.flops import attention_cost
from harope.models.dit.layers import Attention, PositionInputs
from harope.rope import create_encoding, grid_positions

WIDTH, HEADS = 32, 2


def attention(name: str) -> Attention:
    head_dim = WIDTH // HEADS
    return Attention(WIDTH, create_encoding(name, num_heads=HEADS, head_dim=head_dim)).eval()


def counted(module: Attention, height: int, width: int) -> int:
    """Multiply-adds by torch's counter, the matrices being there already."""
    positions = grid_positions(height, width)
    x = torch.zeros(1, height * width, WIDTH)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        places = PositionInputs(positions, None, module.harope.matrices())
        counter = FlopCounterMode(display=False)
        with counter:
            module(x, places)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", ["none", "axial", "harope"])
@pytest.mark.parametrize(("height", "width"), [(2, 3), (6, 7)])
def test_multiply_adds_are_those_of_torchs_counter(name, height, width):
    module = attention(name)
    cost = attention_cost(
        tokens=height * width,
        width=WIDTH,
        num_heads=HEADS,
        has_basis=name == "harope",
        rotates=name != "none",
    )
    # A meets the weights where there are as many tokens as channels.
    basis = cost.basis_on_weights if height * width >= WIDTH else cost.basis_on_tokens
    assert counted(module, height, width) == cost.plain + basis
    assert (basis > 0) == (name == "harope")
    assert (cost.rotation > 0) == (name != "none")


def test_two_channels_turn_by_four_multiplications():
    cost = attention_cost(tokens=1, width=2, num_heads=1, has_basis=False, rotates=True)
    # One pair of queries, one of keys.
    assert cost.rotation == 8


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 10 is not a multiple of num_heads 3"):
        attention_cost(tokens=4, width=10, num_heads=3, has_basis=False, rotates=False)
