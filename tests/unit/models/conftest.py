"""Small models with random weights."""

import pytest
import torch

from harope import DiT, DiTConfig
from support.encoding import randomise

SMALL = DiTConfig(depth=2, width=32, num_heads=2, patch_size=2, num_classes=5)


@pytest.fixture
def small_dit():
    """Makes a DiT of 2 blocks and 32 channels; options are fields of DiTConfig."""

    def build(seed: int = 0, **options) -> DiT:
        torch.manual_seed(seed)
        model = DiT(SMALL, **options)
        randomise(model, spread=0.1)
        return model.eval()

    return build
