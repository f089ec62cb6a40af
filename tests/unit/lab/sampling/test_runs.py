"""Class-conditional generators."""

import torch

from harope import DiT, DiTConfig
from harope.lab.sampling.runs import load_class_generator
from support.encoding import randomise

SMALL = DiTConfig(depth=2, width=16, num_heads=2, patch_size=2, num_classes=5, encoding="harope")


def test_a_loaded_model_is_folded_and_records_its_encoding_and_size(tmp_path):
    model = DiT(SMALL)
    randomise(model, 0.2)
    model.save_pretrained(tmp_path / "model")
    generator = load_class_generator(tmp_path / "model")
    assert generator.config == model.config
    assert generator.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert all(layer.attn.harope.matrices() is None for layer in generator.model.layers)
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([10.0, 900.0]), torch.tensor([1, 4])
    with torch.no_grad():
        expected, ours = model.eval()(*inputs), generator.model(*inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
