"""The diffusion transformer with any positional encoding (DiT, arXiv 2212.09748).

Parameter names are those of the DiT family; encodings live at `blocks.i.attn.harope`.
"""

from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from harope.models.dit.attention import Attention, PositionInputs
from harope.models.dit.config import DiTConfig, dit_config
from harope.models.dit.embeddings import LabelEmbedding, PatchEmbedding, TimestepEmbedding
from harope.rope import (
    Absolute,
    NoEncoding,
    PositionalEncoding,
    RotationTable,
    batched_matrices,
    grid_positions,
)
from harope.rope._fast.cache import DerivedCache


class DiT(nn.Module):
    """Diffusion transformer conditioned on the time and a class by adaptive layer norms.

    Args:
        size: one of the family, such as "DiT-B/2", or a DiTConfig.
        options: fields of DiTConfig to replace, such as `encoding="harope"`.

    Weights outside the encodings are drawn alike whatever the encoding, so that two models made
    after the same `torch.manual_seed` differ by their encodings alone.
    """

    def __init__(self, size: str | DiTConfig = "DiT-B/2", **options: Any) -> None:
        super().__init__()
        self.config = config = dit_config(size, **options)
        self.gradient_checkpointing = False
        self._kept_positions = DerivedCache()
        self.x_embedder = PatchEmbedding(config)
        self.t_embedder = TimestepEmbedding(config.width)
        self.y_embedder = LabelEmbedding(config) if config.num_classes else None
        self.pos_embed, layers = _encodings(config)
        self.blocks = nn.ModuleList(Block(config, encoding) for encoding in layers)
        self.final_layer = FinalLayer(config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial weights of the family; encodings keep their own."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        patches = self.x_embedder.proj
        assert patches.bias is not None
        nn.init.xavier_uniform_(patches.weight.flatten(1))
        nn.init.zeros_(patches.bias)
        for layer in _linears(self.t_embedder):
            nn.init.normal_(layer.weight, std=0.02)
        if self.y_embedder is not None:
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        # Every block and the output start at zero: the network begins as the identity.
        adaptive = [block.adaLN_modulation for block in self.layers]
        for part in (*adaptive, self.final_layer):
            for layer in _linears(part):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Float[Tensor, " batch"],
        y: Int[Tensor, " batch"] | None = None,
        drop_labels: Bool[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out height width"]:
        """The prediction for inputs at times t, in the dtype of x.

        Args:
            x: noisy images or latents, height and width multiples of the patch size.
            t: times in 0..1000.
            y: labels below num_classes, or num_classes for the null class.
            drop_labels: which labels become the null class, where the model has one; by default,
                in training, a random share of `label_dropout`, otherwise none.

        Raises ValueError when x does not fit the patches or y is missing or superfluous.
        """
        self._check(x, y)
        size = (x.shape[-2] // self.config.patch_size, x.shape[-1] // self.config.patch_size)
        positions = self._positions(*size, x.device)
        tokens = self.x_embedder(x)
        embedding = self.pos_embed.embed(positions)
        if embedding is not None:
            tokens = tokens + embedding.to(tokens.dtype)
        condition = self.t_embedder(t, tokens.dtype)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y, drop_labels)
        table = self._shared_table(positions)
        matrices = batched_matrices([block.attn.harope for block in self.layers])
        for block, own in zip(self.layers, matrices, strict=True):
            tokens = self._run(block, tokens, condition, PositionInputs(positions, table, own))
        # Under autocast the layers answer in half precision.
        return self._unpatchify(self.final_layer(tokens, condition), size).to(x.dtype)

    def regularization(self) -> Float[Tensor, ""]:
        """Sum of the encodings' penalties over the layers; 0 where they have none."""
        penalties = [block.attn.harope.regularization() for block in self.layers]
        kept = [penalty for penalty in penalties if penalty is not None]
        return torch.stack(kept).sum() if kept else torch.zeros(())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, the hub's layout."""
        from harope.models.dit.serialization import save_pretrained

        save_pretrained(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> "DiT":
        """Read what `save_pretrained` wrote, from a folder or from the Hugging Face hub."""
        from harope.models.dit.serialization import from_pretrained

        return from_pretrained(str(folder_or_hub_id))

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, *, weights: str = "ema", num_heads: int | None = None
    ) -> "DiT":
        """Read a training checkpoint: a folder of ours, or a released `.pt` of the DiT family.

        Args:
            path: checkpoint folder (`checkpoints/step-...`), run folder (its last one), or file.
            weights: "ema" or "model".
            num_heads: heads of a plain `.pt` whose depth and width are not the family's.
        """
        from harope.models.dit.serialization import from_checkpoint

        return from_checkpoint(Path(path), weights=weights, num_heads=num_heads)

    @property
    def layers(self) -> list["Block"]:
        """The blocks, typed."""
        return cast("list[Block]", list(self.blocks))

    def _check(self, x: Tensor, y: Tensor | None) -> None:
        patch = self.config.patch_size
        if x.shape[1] != self.config.in_channels or x.shape[-2] % patch or x.shape[-1] % patch:
            raise ValueError(
                f"x has the shape {tuple(x.shape)} but the model takes {self.config.in_channels} "
                f"channels and sides that are multiples of the patch size {patch}"
            )
        if (y is None) != (self.y_embedder is None):
            raise ValueError(
                f"y is {'missing' if y is None else 'given'} but num_classes is "
                f"{self.config.num_classes}: pass labels exactly where the model has classes"
            )

    def _positions(self, height: int, width: int, device: torch.device) -> Tensor:
        """The same tensor while the grid stays the same, so that encodings may keep its table."""

        def compute() -> Tensor:
            # Made in inference mode, it could not serve a training after it.
            with torch.inference_mode(False):
                return grid_positions(height, width, device=device)

        if torch.compiler.is_compiling():
            return grid_positions(height, width, device=device)
        return self._kept_positions.get((), compute, (height, width, device))

    def _shared_table(self, positions: Tensor) -> RotationTable | None:
        first = self.layers[0].attn.harope
        return first.rotation_table(positions) if first.shares_table else None

    def _run(self, block: nn.Module, tokens: Tensor, condition: Tensor, places: PositionInputs) -> Tensor:
        if self.gradient_checkpointing and self.training:
            return checkpoint(block, tokens, condition, places, use_reentrant=False)
        return block(tokens, condition, places)

    def _unpatchify(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        patch = self.config.patch_size
        grid = tokens.unflatten(1, size).unflatten(-1, (patch, patch, self.config.out_channels))
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class Block(nn.Module):
    """Attention and MLP, each modulated and gated by the condition (adaLN-Zero)."""

    def __init__(self, config: DiTConfig, encoding: PositionalEncoding) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(config.width, encoding, qk_norm=config.qk_norm)
        self.norm2 = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.mlp = MLP(config.width, int(config.width * config.mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 6 * config.width))

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        condition: Float[Tensor, "batch width"],
        places: PositionInputs,
    ) -> Float[Tensor, "batch tokens width"]:
        """One residual block."""
        modulation = self.adaLN_modulation(condition)[:, None]
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1), places)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


class MLP(nn.Module):
    """Two layers with the tanh form of GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """The same width."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class FinalLayer(nn.Module):
    """Tokens to patches of the prediction."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(config.width, config.patch_size**2 * config.out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 2 * config.width))

    def forward(
        self, x: Float[Tensor, "batch tokens width"], condition: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch tokens patch"]:
        """One patch per token, channels last."""
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


def modulate(
    x: Float[Tensor, "batch tokens width"],
    shift: Float[Tensor, "batch 1 width"],
    scale: Float[Tensor, "batch 1 width"],
) -> Float[Tensor, "batch tokens width"]:
    """x (1 + scale) + shift."""
    return torch.addcmul(shift, x, 1 + scale)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


def _encodings(config: DiTConfig) -> tuple[PositionalEncoding, list[PositionalEncoding]]:
    """The model's own encoding (what is added to the tokens) and one per layer."""
    # Encodings that draw at random must not shift the draws of the other weights.
    with torch.random.fork_rng(devices=[]):
        layers = [config.create_encoding() for _ in range(config.depth)]
    none = NoEncoding(num_heads=config.num_heads, head_dim=config.head_dim, num_axes=2)
    if isinstance(layers[0], Absolute):
        return layers[0], [none] * config.depth
    return none, layers
