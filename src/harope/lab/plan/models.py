"""The models of trainings as plans count them: without weights, data or downloads."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from harope._utils.json_files import load_json
from harope.lab.plan.trace import Forward
from harope.lab.recipes import Recipe
from harope.lab.text.multi_encoder import CLIP_LENGTH, SD3TextConfig
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.dit import DiT
from harope.models.flux import FluxModelConfig, add_trained_parts
from harope.models.mmdit import MMDiTConfig, create_mmdit, run_mmdit
from harope.models.vit import create_vit
from harope.rope import text_image_positions

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "stabilityai/stable-diffusion-3-medium-diffusers": {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "attention_head_dim": 64,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
    },
    "black-forest-labs/FLUX.1-dev": {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
    },
}
"""Configurations of pretrained transformers by hub id, so that nothing is downloaded for a plan."""

FLUX_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
"""Configuration of FLUX.1's VAE, whose latents have an eighth of the height and width."""
VAE_FACTOR = 8

CLIP_PARAMETERS = 123_650_304 + 694_659_840
"""Parameters of the two CLIP text encoders of Stable Diffusion 3: ViT-L and bigG."""
T5_PARAMETERS = 4_762_310_656
"""Parameters of T5-XXL's encoder."""

UNKNOWN_CLASSES = 1000
"""Number of classes of a model whose data determines it."""


@dataclass(frozen=True, kw_only=True)
class FrozenPart:
    """A network that runs in every step and is not trained, such as a text encoder."""

    name: str
    """Name in tables."""
    parameters: int
    """Number of parameters."""
    bytes_per_parameter: int
    """Size of a parameter."""
    flops: int
    """Operations of its matrix products and convolutions on one image or caption."""


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    """The model of a training, and how a plan runs it."""

    create: Callable[[], nn.Module]
    """Creates the model in training mode on the meta device, without gradient checkpointing."""
    forward: Forward
    """Forward pass of the training, with a loss."""
    data_shape: tuple[int, int, int]
    """Channels, height and width of an image or latent of the training data."""
    frozen: tuple[FrozenPart, ...] = ()
    """Networks that run beside it."""


def planned_model(config: RunConfig, recipe: Recipe) -> PlannedModel:
    """Describe the model of a training, with the sizes that its data would set.

    Args:
        config: Configuration of the training.
        recipe: Its recipe, which knows the size of the data if the configuration does not.

    Returns:
        The model.

    Raises:
        ValueError: The size of the data, or the architecture of a pretrained model, is not known.
    """
    side = _data_side(config, recipe)
    match config:
        case TrainConfig():
            return _planned_dit(config, side)
        case ClassifyConfig():
            return _planned_vit(config, side)
        case TextToImageConfig():
            return _planned_mmdit(config, side)
        case FluxLoraConfig():
            return _planned_flux(config, side)
    raise ValueError(f"recipe {config.recipe} is of a task that cannot be planned")


def _data_side(config: RunConfig, recipe: Recipe) -> int:
    data: Any = getattr(config, "data", None)
    for name in ("image_size", "pad_to"):
        if (side := getattr(data, name, None)) is not None:
            return side
    if recipe.data_side is None:
        raise ValueError(
            f"data of the kind {data.kind!r} is measured when it is opened, and recipe "
            f"{recipe.name} has other data: plan the recipe without --data.kind"
        )
    return recipe.data_side


def _planned_dit(config: TrainConfig, side: int) -> PlannedModel:
    classes = UNKNOWN_CLASSES if config.model.num_classes is None else config.model.num_classes
    architecture = replace(config.model, input_size=(side, side), num_classes=classes)

    def create() -> nn.Module:
        with torch.device("meta"):
            return DiT(architecture).train()

    def forward(model: nn.Module, batch: int, device: torch.device) -> Tensor:
        x = torch.randn(batch, architecture.in_channels, side, side, device=device)
        t = torch.rand(batch, device=device)
        labels = torch.zeros(batch, dtype=torch.long, device=device) if classes else None
        dropped = torch.zeros(batch, dtype=torch.bool, device=device)
        return _squared(model(x, t, labels, drop_labels=dropped))

    return PlannedModel(
        create=create, forward=forward, data_shape=(architecture.in_channels, side, side)
    )


def _planned_vit(config: ClassifyConfig, side: int) -> PlannedModel:
    classes = UNKNOWN_CLASSES if config.model.num_classes is None else config.model.num_classes
    architecture = replace(config.model, input_size=(side, side), num_classes=classes)
    shape = (architecture.in_channels, side, side)

    def create() -> nn.Module:
        with torch.device("meta"):
            return create_vit(architecture).train()

    def forward(model: nn.Module, batch: int, device: torch.device) -> Tensor:
        labels = torch.zeros(batch, dtype=torch.long, device=device)
        return F.cross_entropy(model(torch.randn(batch, *shape, device=device)), labels)

    return PlannedModel(create=create, forward=forward, data_shape=shape)


def _planned_mmdit(config: TextToImageConfig, side: int) -> PlannedModel:
    text: Any = config.text
    length = text.length + (CLIP_LENGTH if isinstance(text, SD3TextConfig) else 0)
    architecture = replace(config.model, input_size=(side, side))
    if config.model.pretrained is None:
        assert config.model.in_channels is not None
        channels = config.model.in_channels
    else:
        channels = _architecture(config.model.pretrained, config.model.subfolder)["in_channels"]
    shape = (channels, side, side)

    def create() -> nn.Module:
        with torch.device("meta"):
            return _create_mmdit(architecture).train()

    def forward(model: Any, batch: int, device: torch.device) -> Tensor:
        sizes = model.config
        states = torch.randn(batch, length, sizes.joint_attention_dim, device=device)
        pooled = torch.randn(batch, sizes.pooled_projection_dim, device=device)
        times = torch.rand(batch, device=device)
        return _squared(
            run_mmdit(model, torch.randn(batch, *shape, device=device), times, states, pooled)
        )

    frozen: tuple[FrozenPart, ...] = ()
    if isinstance(text, SD3TextConfig) and config.states.when == "each-step":
        frozen = _sd3_encoders(text, getattr(torch, config.states.encoder_dtype))
    return PlannedModel(create=create, forward=forward, data_shape=shape, frozen=frozen)


def _create_mmdit(config: MMDiTConfig) -> Any:
    if config.pretrained is None:
        return create_mmdit(config)
    from diffusers import SD3Transformer2DModel

    from harope.integrations import install

    sizes = _architecture(config.pretrained, config.subfolder)
    model = SD3Transformer2DModel.from_config(sizes)
    with warnings.catch_warnings():
        # There are no outputs that could change.
        warnings.simplefilter("ignore")
        install(
            model,
            config.encoding,
            keep_absolute=config.keeps_absolute,
            **config.encoding_options,
        )
    return model


def _sd3_encoders(text: SD3TextConfig, dtype: torch.dtype) -> tuple[FrozenPart, ...]:
    # A multiplication and an addition per parameter and token; embeddings are no products, which
    # makes the counts of CLIP a third too large and that of T5 3 %.
    parts = {"CLIP text encoders": (CLIP_PARAMETERS, CLIP_LENGTH)}
    if text.with_t5:
        parts["T5-XXL"] = (T5_PARAMETERS, text.length)
    return tuple(
        FrozenPart(
            name=name,
            parameters=parameters,
            bytes_per_parameter=dtype.itemsize,
            flops=2 * parameters * tokens,
        )
        for name, (parameters, tokens) in parts.items()
    )


def _planned_flux(config: FluxLoraConfig, side: int) -> PlannedModel:
    is_latents = config.data.kind == "captioned-latents"
    latent_side = side if is_latents else side // VAE_FACTOR
    dtype = getattr(torch, config.model.dtype)

    def forward(model: Any, batch: int, device: torch.device) -> Tensor:
        sizes, length = model.config, config.text_length
        grid = latent_side // 2
        ids = text_image_positions(length, grid, grid, device=device)
        random = partial(torch.randn, dtype=dtype, device=device)
        tokens = model(
            hidden_states=random(batch, grid * grid, sizes.in_channels),
            encoder_hidden_states=random(batch, length, sizes.joint_attention_dim),
            pooled_projections=random(batch, sizes.pooled_projection_dim),
            timestep=torch.rand(batch, device=device),
            guidance=torch.ones(batch, device=device) if sizes.guidance_embeds else None,
            img_ids=ids[length:],
            txt_ids=ids[:length],
            return_dict=False,
        )[0]
        return _squared(tokens)

    channels = FLUX_VAE["latent_channels"]
    shape = (channels, side, side) if is_latents else (3, side, side)
    return PlannedModel(
        create=partial(_create_flux, config.model),
        forward=forward,
        data_shape=shape,
        frozen=(_flux_vae(None if is_latents else side),),
    )


def _create_flux(config: FluxModelConfig) -> nn.Module:
    from diffusers import FluxTransformer2DModel

    dtype = getattr(torch, config.dtype)
    with torch.device("meta"):
        model = FluxTransformer2DModel.from_config(_architecture(config.pretrained, "transformer"))
        # diffusers warns where `to` changes the dtype of a model.
        model._apply(lambda tensor: tensor.to(dtype))
        add_trained_parts(model, config)
    return model.train()


def _flux_vae(side: int | None) -> FrozenPart:
    """Return the VAE, which encodes images of a height and width; None for no images."""
    from diffusers import AutoencoderKL

    with torch.device("meta"), torch.no_grad():
        vae = AutoencoderKL(**FLUX_VAE)
        counter = FlopCounterMode(display=False)
        if side is not None:
            with counter:
                vae.encoder(torch.empty(1, 3, side, side))
    return FrozenPart(
        name="VAE",
        parameters=sum(parameter.numel() for parameter in vae.parameters()),
        bytes_per_parameter=4,
        flops=counter.get_total_flops(),
    )


def _architecture(pretrained: str, subfolder: str) -> dict[str, Any]:
    """Return the configuration of a pretrained transformer, without downloading anything."""
    if pretrained in ARCHITECTURES:
        return ARCHITECTURES[pretrained]
    file = Path(pretrained) / subfolder / "config.json"
    if not file.is_file():
        raise ValueError(
            f"model.pretrained {pretrained!r} is neither a folder of a pipeline nor one of "
            f"{', '.join(ARCHITECTURES)}: pass one of them"
        )
    values = load_json(file)
    return {name: value for name, value in values.items() if not name.startswith("_")}


def _squared(output: Tensor) -> Tensor:
    return output.float().square().mean()
