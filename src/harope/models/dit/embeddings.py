"""Embeddings of patches, times and class labels (DiT, arXiv 2212.09748)."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from harope.models.dit.config import DiTConfig

TIMESTEP_CHANNELS, TIMESTEP_PERIOD = 256, 10000.0


class PatchEmbedding(nn.Module):
    """Linear embedding of non-overlapping patches.

    Args:
        config: Patch size, input channels and width.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv2d(config.in_channels, config.width, kernel_size=patch, stride=patch)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens embedding"]:
        """Embed each patch as a token; tokens are ordered row by row.

        Args:
            x: Images or latents, whose sides are multiples of the patch size.
        """
        return self.proj(x).flatten(2).transpose(1, 2)


class TimestepEmbedding(nn.Module):
    """Embedding of times: 256 sinusoidal features, cosines first, followed by an MLP.

    Args:
        width: Channels of the embedding.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(TIMESTEP_CHANNELS, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(
        self, t: Float[Tensor, " batch"], dtype: torch.dtype
    ) -> Float[Tensor, "batch width"]:
        """Embed times in 0..1000. Sinusoids are computed in float32, the MLP in `dtype`.

        Args:
            t: Times.
            dtype: Dtype of the weights, which the result has.
        """
        half = TIMESTEP_CHANNELS // 2
        index = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.exp(-math.log(TIMESTEP_PERIOD) / half * index)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype))


class LabelEmbedding(nn.Module):
    """Embedding table of class labels, with the null class, if any, as the last row.

    Args:
        config: Number of classes, label dropout and width.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        assert config.num_classes
        self.null_class, self.dropout = config.null_class, config.label_dropout
        rows = config.num_classes + (config.null_class is not None)
        self.embedding_table = nn.Embedding(rows, config.width)

    def forward(
        self, labels: Int[Tensor, " batch"], drop: Bool[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch width"]:
        """Embed labels; dropped ones are replaced by the null class.

        Args:
            labels: Class labels, or `null_class`.
            drop: Labels to replace by the null class. By default each with probability `dropout`
                in training mode, and none in eval mode.
        """
        if self.null_class is not None:
            if drop is None and self.training:
                drop = torch.rand(labels.shape, device=labels.device) < self.dropout
            if drop is not None:
                labels = labels.masked_fill(drop, self.null_class)
        return self.embedding_table(labels)
