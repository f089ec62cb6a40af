"""The diffusion transformer with any positional encoding (DiT, arXiv 2212.09748).

Parameter names are those of facebookresearch/DiT, plus encodings at `blocks.i.attn.harope`.
"""

from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harope._utils.argument_checks import check_tensor
from harope._utils.json_files import shorten
from harope._utils.rng import isolated_torch_rng
from harope.models.dit.config import DiTConfig, dit_config
from harope.models.dit.embeddings import LabelEmbedding, PatchEmbedding, TimestepEmbedding
from harope.models.dit.layers import Block, FinalLayer, PositionInputs, folded_projections
from harope.rope import (
    Absolute,
    AnyRotationTable,
    NoEncoding,
    PositionalEncoding,
    batched_matrices,
    grid_positions,
)
from harope.rope._fast.execution import runs_real_tensors
from harope.rope.encoding import batched_regularization


class DiT(nn.Module):
    """Diffusion transformer, conditioned on time and class by adaptive layer norms (adaLN-Zero).

    Initial weights outside the encodings do not depend on the encoding: two models created after
    the same `torch.manual_seed` differ only in their encodings.

    Args:
        size: Name from the DiT paper, such as "DiT-B/2", or a `DiTConfig`.
        options: Fields of `DiTConfig` to replace, such as `encoding="harope"`.

    Raises:
        ValueError: If the name or a field is unknown, or `num_classes` is None.
    """

    def __init__(self, size: str | DiTConfig = "DiT-B/2", **options: Any) -> None:
        super().__init__()
        self.config = config = dit_config(size, **options)
        if config.num_classes is None:
            raise ValueError("num_classes is None: set it to the number of classes of the data")
        self.gradient_checkpointing = False
        self.x_embedder = PatchEmbedding(config)
        self.t_embedder = TimestepEmbedding(config.width)
        self.y_embedder = LabelEmbedding(config) if config.num_classes else None
        self.pos_embed, layers = _encodings(config)
        self.blocks = nn.ModuleList(Block(config, encoding) for encoding in layers)
        self.final_layer = FinalLayer(config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise all weights as in DiT (arXiv 2212.09748), except those of the encodings."""
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
        # Zero modulations and a zero output projection: every block starts as the identity.
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
        positions: Num[Tensor, "*samples tokens axes"] | None = None,
        *,
        drop_labels: Bool[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out height width"]:
        """Predict the noise, velocity or data (and the variance, if learned) at times t.

        Args:
            x: Noisy images or latents; height and width are multiples of the patch size.
            t: Times in 0..1000.
            y: Class labels in 0 .. num_classes - 1, or num_classes for the null class. Required if
                the model has classes.
            positions: Positions (y, x) of the tokens, in units of patches: (tokens, 2), or
                (batch, tokens, 2) for other positions in every sample, such as those of crops.
                Tokens are ordered row by row. By default their row and column in the grid, from 0.
            drop_labels: Labels to replace by the null class, if the model has one. By default each
                label with probability `label_dropout` in training mode, and none in eval mode.

        Returns:
            The prediction, in the dtype of `x`.

        Raises:
            ValueError: If `x` does not fit the patches, `t` or `y` does not fit `x`, `y` is missing
                or superfluous, or `positions` does not fit the tokens. Labels out of range are only
                noticed on the CPU.
        """
        self._check(x, t, y)
        size = (x.shape[-2] // self.config.patch_size, x.shape[-1] // self.config.patch_size)
        if positions is None:
            positions = self._grid_positions(*size, x.device)
        else:
            _check_positions(positions, len(x), size)
            positions = positions.to(x.device)
        tokens = self.x_embedder(x)
        embedding = self.pos_embed.embed(positions)
        if embedding is not None:
            tokens = tokens + embedding.to(tokens.dtype)
        condition = self.t_embedder(t, tokens.dtype)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y, drop_labels)
        for block, inputs in zip(
            self.layers, self._inputs(positions, tokens, condition), strict=True
        ):
            tokens = self._run_block(block, tokens, condition, inputs)
        # Under autocast the layers return half precision.
        return self._unpatchify(self.final_layer(tokens, condition), size).to(x.dtype)

    def regularization(self) -> Float[Tensor, ""]:
        """Sum the penalties of the encodings over all layers; 0 if they have none."""
        penalty = batched_regularization([block.attn.harope for block in self.layers])
        if penalty is None:
            return torch.zeros((), device=self.x_embedder.proj.weight.device)
        return penalty

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **push_to_hub_options: Any,
    ) -> str | None:
        """Write the model as `config.json` and `model.safetensors`.

        This method, `from_pretrained` and `push_to_hub` take the arguments of huggingface_hub's
        `PyTorchModelHubMixin`, but the package is only needed to reach the Hub.

        Args:
            save_directory: Folder to write into, created if missing.
            repo_id: Repository for `push_to_hub`; by default the name of the folder.
            push_to_hub: Whether to upload the model as well.
            push_to_hub_options: Further arguments of `push_to_hub`.

        Returns:
            The URL of the commit if the model was uploaded, otherwise None.
        """
        from harope.models.dit.serialization import save_pretrained

        save_pretrained(self, Path(save_directory))
        if not push_to_hub:
            return None
        return self.push_to_hub(repo_id or Path(save_directory).name, **push_to_hub_options)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> "DiT":
        """Read a model that `save_pretrained` or `push_to_hub` wrote.

        Args:
            pretrained_model_name_or_path: Folder, or id of a repository on the Hugging Face Hub,
                which requires huggingface_hub.
            revision: Branch, tag or commit of the repository.
            cache_dir: Folder that downloads are cached in.
            force_download: Whether to download files that are cached already.
            local_files_only: Whether to use only cached files.
            token: Access token; True for the stored one.

        Returns:
            The model in eval mode, with float32 weights.

        Raises:
            ValueError: If there is no such model, or its files are damaged.
        """
        from harope.models.dit.serialization import from_pretrained

        return from_pretrained(
            str(pretrained_model_name_or_path),
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload model",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
    ) -> str:
        """Upload the files of `save_pretrained` to a repository on the Hugging Face Hub.

        Args:
            repo_id: Repository, such as "user/dit-b-2-harope"; created if missing.
            commit_message: Message of the commit.
            private: Whether a new repository is private; by default as the account is set up.
            token: Access token; by default the stored one.
            branch: Branch to commit to; by default the main branch.
            create_pr: Whether to open a pull request instead of committing.

        Returns:
            The URL of the commit.

        Raises:
            ImportError: If huggingface_hub is not installed.
            ValueError: If there is no access token, or the Hub cannot be reached or refuses the
                upload.
        """
        from harope.models.dit.serialization import push_to_hub

        return push_to_hub(
            self,
            repo_id,
            commit_message=commit_message,
            private=private,
            token=token,
            branch=branch,
            create_pr=create_pr,
        )

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, *, weights: str = "ema", num_heads: int | None = None
    ) -> "DiT":
        """Read a training checkpoint of harope or a facebookresearch/DiT `.pt` file.

        Args:
            path: Checkpoint folder (`checkpoints/step-...`), run folder (whose last checkpoint is
                read), model folder as written by `save_pretrained`, or `.pt` file.
            weights: "ema" or "model"; has no effect if there is only one set of weights.
            num_heads: Number of attention heads of a `.pt` file without HARoPE whose depth and
                width are not those of a model of the DiT paper.

        Returns:
            The model in eval mode, with float32 weights.

        Raises:
            ValueError: If the path holds no checkpoint, or a damaged one, or one of another model.
        """
        from harope.models.dit.serialization import from_checkpoint

        return from_checkpoint(Path(path), weights=weights, num_heads=num_heads)

    @property
    def layers(self) -> list[Block]:
        """The transformer blocks, typed, from the first to the last."""
        return cast("list[Block]", list(self.blocks))

    def _check(self, x: Tensor, t: Tensor, y: Tensor | None) -> None:
        patch = self.config.patch_size
        check_tensor("x", x, 4)
        check_tensor("t", t, 1)
        if len(t) != len(x):
            raise ValueError(f"t has {len(t)} times but x {len(x)} samples: pass one per sample")
        if not x.is_floating_point() or 0 in x.shape[-2:]:
            raise ValueError(
                f"x must be a floating-point tensor with pixels, got {x.dtype} of the shape "
                f"{tuple(x.shape)}"
            )
        if x.shape[1] != self.config.in_channels or x.shape[-2] % patch or x.shape[-1] % patch:
            raise ValueError(
                f"x has the shape {tuple(x.shape)}, but the model takes {self.config.in_channels} "
                f"channels and a height and width that are multiples of the patch size {patch}"
            )
        if (y is None) != (self.y_embedder is None):
            raise ValueError(
                f"y is {'missing' if y is None else 'given'}, but num_classes is "
                f"{self.config.num_classes}: pass labels if and only if the model has classes"
            )
        if y is not None:
            _check_labels(y, len(x), self.config)

    def _grid_positions(self, height: int, width: int, device: torch.device) -> Tensor:
        # Inside a `cached` scope always the same tensor, so that encodings find its table again.
        return self.pos_embed.reuse(
            ("positions", height, width, device),
            lambda: grid_positions(height, width, device=device),
        )

    def _inputs(self, positions: Tensor, tokens: Tensor, condition: Tensor) -> list[PositionInputs]:
        """Compute for every layer what is computed for all layers as one."""
        table, attentions = self._shared_table(positions), [block.attn for block in self.layers]
        if attentions[0].harope.needs_condition:
            inputs = PositionInputs(positions, table, condition=condition)
            return [inputs] * len(attentions)
        projections = folded_projections(attentions, tokens.shape[0] * tokens.shape[1])
        if projections is not None:
            return [PositionInputs(positions, table, projection=part) for part in projections]
        matrices = batched_matrices([attention.harope for attention in attentions])
        return [PositionInputs(positions, table, pair) for pair in matrices]

    def _shared_table(self, positions: Tensor) -> AnyRotationTable | None:
        first = self.layers[0].attn.harope
        return first.rotation_table(positions) if first.shares_table else None

    def _run_block(
        self, block: nn.Module, tokens: Tensor, condition: Tensor, inputs: PositionInputs
    ) -> Tensor:
        if self.gradient_checkpointing and self.training:
            return checkpoint(block, tokens, condition, inputs, use_reentrant=False)
        return block(tokens, condition, inputs)

    def _unpatchify(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        patch = self.config.patch_size
        grid = tokens.unflatten(1, size).unflatten(-1, (patch, patch, self.config.out_channels))
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


def _encodings(config: DiTConfig) -> tuple[PositionalEncoding, list[PositionalEncoding]]:
    """Create the encoding that is added to the tokens, and one encoding per layer."""
    # Encodings with random initial values must not change those of the other weights.
    with isolated_torch_rng():
        layers = [config.create_encoding() for _ in range(config.depth)]
    no_encoding = NoEncoding(num_heads=config.num_heads, head_dim=config.head_dim, num_axes=2)
    if isinstance(layers[0], Absolute):
        return layers[0], [no_encoding] * config.depth
    return no_encoding, layers


def _check_labels(labels: Tensor, batch: int, config: DiTConfig) -> None:
    check_tensor("y", labels, 1)
    if len(labels) != batch or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"y must have {batch} class labels of an integer type, got {labels.dtype} of the shape "
            f"{tuple(labels.shape)}"
        )
    # A GPU would have to wait for the values.
    if labels.is_cpu and runs_real_tensors() and len(labels):
        assert config.num_classes
        last = config.num_classes - (config.null_class is None)
        if labels.min() < 0 or labels.max() > last:
            raise ValueError(f"y has labels outside 0 .. {last}: {shorten(labels.tolist())}")


def _check_positions(positions: Tensor, batch: int, size: tuple[int, int]) -> None:
    check_tensor("positions", positions)
    tokens = size[0] * size[1]
    if tuple(positions.shape) not in ((tokens, 2), (batch, tokens, 2)):
        raise ValueError(
            f"positions has the shape {tuple(positions.shape)}, but x has {batch} samples of "
            f"{size[0]} x {size[1]} tokens: pass positions (y, x) of the shape ({tokens}, 2) or "
            f"({batch}, {tokens}, 2)"
        )
