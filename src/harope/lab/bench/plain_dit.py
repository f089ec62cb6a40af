"""A DiT written plainly after its paper, as the baseline of timings.

Blocks are as arXiv 2212.09748, section 3, describes them, in the fewest lines of PyTorch: fixed
sines and cosines are added to the tokens, queries and keys are not rotated, and no operation is
fused by hand. Parameters have the names and shapes of `harope.DiT`, so that the weights of one fit
the other.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from harope.models.dit.config import DiTConfig
from harope.models.dit.embeddings import LabelEmbedding, PatchEmbedding, TimestepEmbedding
from harope.models.dit.layers import MLP, FinalLayer
from harope.rope import create_encoding, grid_positions


class PlainDiT(nn.Module):
    """Plain diffusion transformer without a rotary encoding.

    Args:
        config: Sizes of the model; its encoding is ignored.
        side: Height and width of the input.
    """

    pos_embed: Tensor

    def __init__(self, config: DiTConfig, side: int) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = PatchEmbedding(config)
        self.t_embedder = TimestepEmbedding(config.width)
        self.y_embedder = LabelEmbedding(config)
        positions = grid_positions(side // config.patch_size, side // config.patch_size)
        sines = create_encoding("ape", num_heads=config.num_heads, head_dim=config.head_dim)
        self.register_buffer("pos_embed", sines.embed(positions), persistent=False)
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Float[Tensor, " batch"],
        y: Int[Tensor, " batch"],
        *,
        drop_labels: Bool[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out height width"]:
        """Predict noise and variance, as `harope.DiT` does.

        Args:
            x: Noisy latents.
            t: Times in 0..1000.
            y: Class labels.
            drop_labels: Labels to replace by the null class.
        """
        tokens = self.x_embedder(x) + self.pos_embed
        condition = self.t_embedder(t, tokens.dtype) + self.y_embedder(y, drop_labels)
        for block in self.blocks:
            tokens = block(tokens, condition)
        patches = self.final_layer(tokens, condition)
        patch, (height, width) = self.config.patch_size, x.shape[2:]
        grid = patches.reshape(len(x), height // patch, width // patch, patch, patch, -1)
        return torch.einsum("nhwpqc->nchpwq", grid).reshape(len(x), -1, height, width).to(x.dtype)


class PlainAttention(nn.Module):
    """Multi-head self-attention with a packed projection.

    Args:
        config: Sizes of the model.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Apply attention over all tokens.

        Args:
            x: Tokens.
        """
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, width))


class PlainBlock(nn.Module):
    """Transformer block with adaptive layer norms and gates (adaLN-Zero).

    Args:
        config: Sizes of the model.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.attn = PlainAttention(config)
        self.norm2 = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.mlp = MLP(config.width, int(config.width * config.mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 6 * config.width))

    def forward(
        self, x: Float[Tensor, "batch tokens width"], condition: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Apply attention and MLP.

        Args:
            x: Tokens.
            condition: Embedding of time and class.
        """
        parts = self.adaLN_modulation(condition).unsqueeze(1).chunk(6, dim=-1)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = parts
        x = x + gate_1 * self.attn(self.norm1(x) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.mlp(self.norm2(x) * (1 + scale_2) + shift_2)
