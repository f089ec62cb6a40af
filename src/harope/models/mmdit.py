"""diffusers' SD3Transformer2DModel (MMDiT) with an encoding of ours, from scratch or pretrained."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harope.integrations import ModelChangedWarning, install
from harope.models.checkpoint_files import find_weights
from harope.rope import encoding_config
from harope.rope.presets import options_from_file, options_to_store

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

BUILTIN_ENCODING = "ape"
"""The encoding that an MMDiT has before one is put in: sines and cosines of its own."""

_SIZES = (
    "depth", "num_heads", "head_dim", "patch_size", "in_channels", "text_channels",
    "pooled_channels",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MMDiTConfig:
    """A multimodal diffusion transformer (Esser et al. 2024, arXiv 2403.03206).

    Either a pretrained one, or all seven sizes.
    """

    pretrained: str | None = None
    """Folder or hub id of a pretrained one; None for the sizes below."""
    subfolder: str = "transformer"
    """Where it lies in there; "" where the folder is the transformer's own."""
    depth: int | None = None
    """Number of blocks."""
    num_heads: int | None = None
    """Attention heads."""
    head_dim: int | None = None
    """Channels of a head; num_heads times as many of the tokens."""
    patch_size: int | None = None
    """Pixels, or latents, along the side of a token."""
    in_channels: int | None = None
    """Channels of the images or latents."""
    text_channels: int | None = None
    """Channels of the text encoder's states."""
    pooled_channels: int | None = None
    """Channels of its pooled vector."""
    qk_norm: Literal["rms_norm"] | None = None
    """Norm of queries and keys, as SD3.5 has it."""
    dual_attention_layers: tuple[int, ...] = ()
    """Blocks with a second attention of the image alone, as SD3.5-medium has them."""
    input_size: tuple[int, int] | None = None
    """Height and width it is trained at, which training fills in; others can be run."""
    encoding: str = "harope"
    """Positional encoding, one of `harope.list_encodings()`; "ape" is the model's own."""
    encoding_options: dict[str, Any] = field(default_factory=dict)
    """Parts of the encoding's preset to replace (see EncodingConfig)."""
    keep_absolute: bool | None = None
    """Whether the model's own sines and cosines stay beside the encoding; None: where the model is
    pretrained, and with "ape", which they are."""

    def __post_init__(self) -> None:
        given = [name for name in _SIZES if getattr(self, name) is not None]
        if len(given) != (0 if self.pretrained else len(_SIZES)):
            raise ValueError(
                f"pretrained {self.pretrained!r} and "
                f"{', '.join(f'{name} {getattr(self, name)}' for name in _SIZES)}: give either a "
                f"pretrained model, or all seven sizes"
            )
        for name in given:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.depth and not all(0 <= index < self.depth for index in self.dual_attention_layers):
            raise ValueError(
                f"dual_attention_layers {self.dual_attention_layers} are not all within the depth "
                f"{self.depth}: blocks are numbered from 0"
            )
        encoding_config(self.encoding, **self.encoding_options)

    @property
    def keeps_absolute(self) -> bool:
        """`keep_absolute`, settled."""
        if self.keep_absolute is None:
            return self.pretrained is not None or self.encoding == BUILTIN_ENCODING
        return self.keep_absolute


def create_mmdit(config: MMDiTConfig) -> "SD3Transformer2DModel":
    """The model with its encoding in it; fresh weights, where it is not pretrained.

    Weights outside the encoding are the same for every encoding. Raises OSError where the
    pretrained model is not found, ValueError for an encoding that does not fit.
    """
    if config.pretrained is not None:
        from diffusers import SD3Transformer2DModel

        model = SD3Transformer2DModel.from_pretrained(
            config.pretrained, subfolder=config.subfolder or None
        )
    else:
        model = _fresh(config)
    with warnings.catch_warnings():
        if config.pretrained is None:
            # There is no output to preserve.
            warnings.simplefilter("ignore", ModelChangedWarning)
        _install(model, mmdit_to_dict(config, model))
    return model


def predict(
    network: Callable[..., Any],
    x: Float[Tensor, "batch channels height width"],
    times: Float[Tensor, " batch"],
    states: Float[Tensor, "batch length text_channels"],
    pooled: Float[Tensor, "batch pooled_channels"],
) -> Float[Tensor, "batch channels height width"]:
    """What the model makes of noisy x at times in 0..1000, given the states of captions.

    `network` is the model, wrapped or not. Padding is attended to like words, as in SD3.
    """
    return network(
        hidden_states=x,
        encoder_hidden_states=states,
        pooled_projections=pooled,
        timestep=times,
        return_dict=False,
    )[0]


def mmdit_to_dict(config: MMDiTConfig, model: "SD3Transformer2DModel") -> dict[str, Any]:
    """What a checkpoint's config.json says: enough to make the model anew without its source."""
    own = {name: value for name, value in dict(model.config).items() if not name.startswith("_")}
    return {
        "transformer": own,
        "input_size": config.input_size,
        "encoding": config.encoding,
        "encoding_options": options_to_store(config.encoding, config.encoding_options),
        "keep_absolute": config.keeps_absolute,
    }


def read_mmdit(
    path: Path, *, weights: str = "ema"
) -> tuple["SD3Transformer2DModel", dict[str, Any]]:
    """A model in eval mode, and its description, from a run folder or a checkpoint folder.

    Of a run, the last checkpoint is read; `weights` are "ema" or "model". Raises ValueError when
    the path holds no checkpoint of an MMDiT, or a damaged one.
    """
    from diffusers import SD3Transformer2DModel

    file = find_weights(path, weights)
    folder = file.parent
    try:
        description = json.loads((folder / "config.json").read_text())
        options = options_from_file(description["encoding"], description["encoding_options"])
        description["encoding_options"] = options
        model = SD3Transformer2DModel.from_config(description["transformer"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelChangedWarning)
            _install(model, description)
        # Averages are of parameters alone: a pretrained table of sines stands beside the weights.
        model.load_state_dict(load_file(folder / "model.safetensors") | load_file(file))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        message = f"checkpoint {folder} is not that of an MMDiT, or damaged: {error}"
        raise ValueError(message) from None
    return model.eval(), description


def _fresh(config: MMDiTConfig) -> "SD3Transformer2DModel":
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
        # Its sines and cosines are computed for the grid at hand, not cropped out of a table.
        pos_embed_max_size=None,
        dual_attention_layers=config.dual_attention_layers,
        qk_norm=config.qk_norm,
    )
    _initialize(model)
    return model


def _initialize(model: "SD3Transformer2DModel") -> None:
    """As a DiT begins (Peebles & Xie 2023, arXiv 2212.09748, section 3.2): every block is the
    identity and the output is 0, since modulations and the last projection are zeros.

    Other weights are Xavier's uniform ones, those of the time's embedding normal with 0.02; biases
    are zeros. diffusers leaves torch's own initial values.
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
