"""The MMDiT, diffusers' SD3Transformer2DModel, with an encoding: from scratch or pretrained."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from harope._utils.argument_checks import check_fields
from harope._utils.field_checks import AT_LEAST_ONE, check_range
from harope._utils.hub import local_files_only
from harope.integrations import ModelChangedWarning, install
from harope.models.checkpoint_files import read_checkpoint, read_weights
from harope.rope import encoding_config
from harope.rope.presets import options_to_store

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

BUILTIN_ENCODING = "ape"
"""Encoding of an unmodified MMDiT: fixed sines and cosines added to the tokens."""

_SIZES = (
    "depth", "num_heads", "head_dim", "patch_size", "in_channels", "text_channels",
    "pooled_channels",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MMDiTConfig:
    """A multimodal diffusion transformer (MMDiT; Esser et al. 2024, arXiv 2403.03206).

    Give either `pretrained` or all of depth, num_heads, head_dim, patch_size, in_channels,
    text_channels and pooled_channels.
    """

    pretrained: str | None = None
    """Folder or Hugging Face Hub id of a pretrained model; None for a new model."""
    subfolder: str = "transformer"
    """Subfolder of the transformer in the pipeline; "" if `pretrained` is a transformer."""
    depth: int | None = None
    """Number of blocks."""
    num_heads: int | None = None
    """Number of attention heads."""
    head_dim: int | None = None
    """Channels per head; tokens have num_heads * head_dim channels."""
    patch_size: int | None = None
    """Side of a patch in pixels or latents."""
    in_channels: int | None = None
    """Channels of the input: images or latents."""
    text_channels: int | None = None
    """Channels of the text embeddings, per token."""
    pooled_channels: int | None = None
    """Channels of the pooled text embedding."""
    qk_norm: Literal["rms_norm"] | None = None
    """Normalisation of queries and keys, as in SD3.5."""
    dual_attention_layers: tuple[int, ...] = ()
    """Blocks with a second, image-only attention, as in SD3.5-medium; numbered from 0."""
    input_size: tuple[int, int] | None = None
    """Height and width of the training data; set by the training. Other sizes can be run."""
    encoding: str = "harope"
    """Positional encoding, one of `harope.list_encodings()`; "ape" is the built-in one."""
    encoding_options: dict[str, Any] = field(default_factory=dict)
    """Options of the encoding that replace those of its preset, see `EncodingConfig`."""
    keep_absolute: bool | None = None
    """Whether the built-in sines and cosines remain in addition to the encoding. None: they remain
    in a pretrained model and with encoding "ape"."""

    def __post_init__(self) -> None:
        check_fields(self)
        given = [name for name in _SIZES if getattr(self, name) is not None]
        if len(given) != (0 if self.pretrained else len(_SIZES)):
            raise ValueError(
                f"pretrained {self.pretrained!r} and "
                f"{', '.join(f'{name} {getattr(self, name)}' for name in _SIZES)}: give either a "
                f"pretrained model or all seven sizes"
            )
        check_range(self, AT_LEAST_ONE, *given)
        if self.depth and not all(0 <= index < self.depth for index in self.dual_attention_layers):
            raise ValueError(
                f"dual_attention_layers {self.dual_attention_layers} are not all below the depth "
                f"{self.depth}: blocks are numbered from 0"
            )
        encoding_config(self.encoding, **self.encoding_options)

    @property
    def keeps_absolute(self) -> bool:
        """`keep_absolute` with None replaced by its default for this model."""
        if self.keep_absolute is None:
            return self.pretrained is not None or self.encoding == BUILTIN_ENCODING
        return self.keep_absolute


def create_mmdit(config: MMDiTConfig) -> "SD3Transformer2DModel":
    """Create an MMDiT with its encoding installed.

    Initial weights outside the encoding are the same for every encoding, given the same
    `torch.manual_seed`.

    Args:
        config: Pretrained model or sizes, and the encoding.

    Returns:
        The model, with pretrained or new weights.

    Raises:
        OSError: If the folder has no pretrained model.
        ValueError: If the pretrained model is not found, or the encoding does not fit.
    """
    if config.pretrained is not None:
        from diffusers import SD3Transformer2DModel

        model = SD3Transformer2DModel.from_pretrained(
            config.pretrained,
            subfolder=config.subfolder or None,
            local_files_only=local_files_only(config.pretrained),
        )
    else:
        model = _create_from_sizes(config)
    with warnings.catch_warnings():
        if config.pretrained is None:
            # New weights have no outputs to preserve.
            warnings.simplefilter("ignore", ModelChangedWarning)
        _install(model, mmdit_to_dict(config, model))
    return model


def run_mmdit(
    network: Callable[..., Any],
    x: Float[Tensor, "batch channels height width"],
    times: Float[Tensor, " batch"],
    text_embeddings: Float[Tensor, "batch length text_channels"],
    pooled: Float[Tensor, "batch pooled_channels"],
) -> Float[Tensor, "batch channels height width"]:
    """Evaluate an MMDiT.

    Padding tokens of the text are attended to like any others, as in SD3.

    Args:
        network: The model, possibly compiled or wrapped for distributed training.
        x: Noisy images or latents.
        times: Times in 0..1000.
        text_embeddings: Embeddings of the captions' tokens.
        pooled: Pooled embeddings of the captions.

    Returns:
        The prediction, of the shape of `x`.
    """
    return network(
        hidden_states=x,
        encoder_hidden_states=text_embeddings,
        pooled_projections=pooled,
        timestep=times,
        return_dict=False,
    )[0]


def mmdit_to_dict(config: MMDiTConfig, model: "SD3Transformer2DModel") -> dict[str, Any]:
    """Describe a model for a checkpoint's config.json, so that it can be built without its source.

    Args:
        config: Configuration that the model was created from.
        model: The model.

    Returns:
        Values for JSON: the transformer's own configuration, and the encoding with its options.
    """
    public = {name: value for name, value in dict(model.config).items() if not name.startswith("_")}
    return {
        "transformer": public,
        "input_size": config.input_size,
        "encoding": config.encoding,
        "encoding_options": options_to_store(config.encoding, config.encoding_options),
        "keep_absolute": config.keeps_absolute,
    }


def read_mmdit(
    path: Path, *, weights: str = "ema"
) -> tuple["SD3Transformer2DModel", dict[str, Any]]:
    """Read an MMDiT from a run folder (its last checkpoint) or a checkpoint folder.

    Args:
        path: Run folder or checkpoint folder.
        weights: "ema" or "model".

    Returns:
        The model in eval mode, and its description as returned by `mmdit_to_dict`.

    Raises:
        ValueError: If there is no checkpoint, or it is damaged or not that of an MMDiT.
    """
    from diffusers import SD3Transformer2DModel

    def build(
        description: dict[str, Any], file: Path
    ) -> tuple[SD3Transformer2DModel, dict[str, Any]]:
        model = SD3Transformer2DModel.from_config(description["transformer"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelChangedWarning)
            _install(model, description)
        # EMA files hold parameters only; buffers, such as a pretrained sine-cosine table, are in
        # the model file.
        model.load_state_dict(
            read_weights(file.with_name("model.safetensors")) | read_weights(file)
        )
        return model.eval(), description

    return read_checkpoint(path, weights=weights, kind="an MMDiT", build=build)


def _create_from_sizes(config: MMDiTConfig) -> "SD3Transformer2DModel":
    from diffusers import SD3Transformer2DModel

    assert config.input_size is not None
    assert config.num_heads is not None
    assert config.head_dim is not None
    model = SD3Transformer2DModel(
        sample_size=max(config.input_size),
        patch_size=config.patch_size,
        in_channels=config.in_channels,
        out_channels=config.in_channels,
        num_layers=config.depth,
        attention_head_dim=config.head_dim,
        num_attention_heads=config.num_heads,
        joint_attention_dim=config.text_channels,
        caption_projection_dim=config.num_heads * config.head_dim,
        pooled_projection_dim=config.pooled_channels,
        # Sines and cosines are computed for the grid of the input, not cropped out of a table.
        pos_embed_max_size=None,
        dual_attention_layers=config.dual_attention_layers,
        qk_norm=config.qk_norm,
    )
    _initialize(model)
    return model


def _initialize(model: "SD3Transformer2DModel") -> None:
    """Initialise the weights as in DiT (Peebles & Xie 2023, arXiv 2212.09748, section 3.2).

    The modulations and the last projection are zero, so that every block is the identity and the
    output is 0. Other weights are Xavier uniform, those of the timestep embedding normal with
    standard deviation 0.02; biases are zero. (diffusers leaves PyTorch's default initialisation.)
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    patches = model.pos_embed.proj
    nn.init.xavier_uniform_(patches.weight.flatten(1))
    nn.init.zeros_(patches.bias)
    embedder = model.time_text_embed.timestep_embedder
    for linear in (embedder.linear_1, embedder.linear_2):
        nn.init.normal_(linear.weight, std=0.02)
    modulations = [
        norm.linear
        for block in model.transformer_blocks
        for norm in (block.norm1, block.norm1_context)
    ]
    for linear in (*modulations, model.norm_out.linear, model.proj_out):
        nn.init.zeros_(linear.weight)


def _install(model: "SD3Transformer2DModel", description: dict[str, Any]) -> None:
    install(
        model,
        description["encoding"],
        keep_absolute=description["keep_absolute"],
        **description["encoding_options"],
    )
