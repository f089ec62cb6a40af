"""Our DiT with "ape" against diffusers' DiTTransformer2DModel, given the same weights."""

import pytest
import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import Timesteps
from torch import Tensor

from harope import DiT, DiTConfig
from support.encoding import randomise

CONFIG = DiTConfig(depth=2, width=48, num_heads=3, patch_size=2, num_classes=7, encoding="ape")
SIDE = 12

LINEARS = {
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
CONDITION = {
    "t_embedder.mlp.0": "norm1.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "norm1.emb.timestep_embedder.linear_2",
}


def translated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under the names of diffusers, which embeds time and label in every block."""
    out = {}
    for end in ("weight", "bias"):
        out[f"pos_embed.proj.{end}"] = state[f"x_embedder.proj.{end}"]
        out[f"proj_out_1.{end}"] = state[f"final_layer.adaLN_modulation.1.{end}"]
        out[f"proj_out_2.{end}"] = state[f"final_layer.linear.{end}"]
        for i in range(CONFIG.depth):
            ours, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
            for name, other in LINEARS.items():
                out[f"{theirs}.{other}.{end}"] = state[f"{ours}.{name}.{end}"]
            for name, other in CONDITION.items():
                out[f"{theirs}.{other}.{end}"] = state[f"{name}.{end}"]
            rows = state[f"{ours}.attn.qkv.{end}"].chunk(3)
            for name, value in zip("qkv", rows, strict=True):
                out[f"{theirs}.attn1.to_{name}.{end}"] = value
    labels = state["y_embedder.embedding_table.weight"]
    for i in range(CONFIG.depth):
        out[f"transformer_blocks.{i}.norm1.emb.class_embedder.embedding_table.weight"] = labels
    return out


@pytest.fixture
def pair() -> tuple[DiT, DiTTransformer2DModel]:
    torch.manual_seed(0)
    ours = DiT(CONFIG)
    randomise(ours, 0.1)
    theirs = DiTTransformer2DModel(
        num_attention_heads=CONFIG.num_heads,
        attention_head_dim=CONFIG.head_dim,
        in_channels=4,
        out_channels=8,
        num_layers=CONFIG.depth,
        sample_size=SIDE,
        patch_size=CONFIG.patch_size,
        num_embeds_ada_norm=CONFIG.num_classes,
        norm_eps=1e-6,
    )
    theirs.load_state_dict(translated(ours.state_dict()))
    for block in theirs.transformer_blocks:
        # diffusers spaces the 128 frequencies of the time over 127 steps, the family over 128.
        block.norm1.emb.time_proj = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
    return ours.eval(), theirs.eval()


def test_outputs_are_the_same(pair):
    ours, theirs = pair
    x, t, y = torch.randn(4, 4, SIDE, SIDE), torch.tensor([0, 1, 500, 999]), torch.arange(4)
    with torch.no_grad():
        expected = theirs(x, t, y).sample
        out = ours(x, t.float(), y)
    assert expected.std() > 0.1
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


def test_the_null_class_is_the_last_row(pair):
    ours, theirs = pair
    x, t, y = torch.randn(1, 4, SIDE, SIDE), torch.tensor([40]), torch.tensor([7])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t.float(), y), theirs(x, t, y).sample, rtol=0, atol=1e-4)
