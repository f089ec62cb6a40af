"""MRoPE, partial rotation and YaRN's attention factor against transformers'."""

import pytest
import torch
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from harope.rope import create_encoding, set_scaling, text_images_positions

HEAD_DIM = 32
QWEN = {"hidden_size": 2 * HEAD_DIM, "num_attention_heads": 2, "head_dim": HEAD_DIM}


@pytest.mark.parametrize(
    ("name", "theirs", "config", "sections"),
    [
        ("mrope", Qwen2VLRotaryEmbedding, Qwen2VLTextConfig, (4, 6, 6)),
        ("mrope-interleaved", Qwen3VLTextRotaryEmbedding, Qwen3VLTextConfig, (6, 5, 5)),
    ],
)
def test_mrope_of_text_and_images(name, theirs, config, sections):
    rope = {"rope_type": "default", "rope_theta": 5e5, "mrope_section": list(sections)}
    module = theirs(config(**QWEN, rope_parameters=rope))
    positions = text_images_positions(5, (3, 4), 7, (2, 2, 2))
    x = torch.zeros(1)
    expected = module(x, positions.T[:, None])
    encoding = create_encoding(
        name, num_heads=2, head_dim=HEAD_DIM, num_axes=3, theta=5e5, sections=sections
    )
    for ours, table in zip(encoding.rotation_table(positions), expected, strict=True):
        torch.testing.assert_close(ours, table[0, :, : HEAD_DIM // 2], rtol=0, atol=2e-6)


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_a_fraction_of_the_channels(fraction):
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": fraction}
    module = GPTNeoXRotaryEmbedding(
        GPTNeoXConfig(hidden_size=2 * HEAD_DIM, num_attention_heads=2, rope_parameters=rope)
    )
    encoding = create_encoding(
        "axial", num_heads=2, head_dim=HEAD_DIM, num_axes=1, rotary_fraction=fraction
    )
    positions = torch.arange(9.0)
    cos, sin = module(torch.zeros(1), positions[None])
    pairs = int(fraction * HEAD_DIM) // 2
    for ours, table in zip(encoding.rotation_table(positions[:, None]), (cos, sin), strict=True):
        torch.testing.assert_close(ours[:, :pairs], table[0, :, :pairs], rtol=0, atol=2e-6)


def test_the_attention_factor_of_yarn():
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = LlamaConfig(hidden_size=2 * HEAD_DIM, num_attention_heads=2, rope_parameters=rope)
    _, factor = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
    encoding = create_encoding("axial", num_heads=2, head_dim=HEAD_DIM, num_axes=1)
    q, k = torch.randn(2, 1, 2, 5, HEAD_DIM)
    positions = torch.zeros(5, 1)
    sizes = {"train_sizes": (64,), "sizes": (256,)}
    set_scaling(encoding, "yarn", **sizes, attention_factor=factor)
    out_q, out_k = encoding(q, k, positions)
    torch.testing.assert_close(out_q, factor * q)
    torch.testing.assert_close(out_k, factor * k)
    assert factor == pytest.approx(0.1 * torch.tensor(4.0).log().item() + 1)
