"""Loading of models for `harope inspect`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harope.integrations import read_description
from harope.integrations.registry import INTEGRATIONS
from harope.integrations.serialization import FILE
from harope.lab.analysis.inspected_model import AttentionLayer, InspectedModel, model_layers
from harope.lab.analysis.receptive_fields import Grid
from harope.lab.sampling.runs import find_train_config
from harope.lab.text.registry import text_length
from harope.lab.training.checkpoint import stored_origin
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.flux_lora.task import ADAPTERS
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.dit import DiT
from harope.models.mmdit import create_mmdit, read_mmdit
from harope.models.vit import create_vit, read_vit, vit_patch_size
from harope.rope import PositionalEncoding, create_encoding, encoding_config, list_encodings

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

DEFAULT_GRID: Grid = (16, 16)
"""Number of tokens along y and x if the training resolution is unknown."""


def load_inspected_model(
    path: Path, *, weights: str = "ema", grid: Grid | None = None
) -> InspectedModel:
    """Load a model for inspection.

    Args:
        path: A run, a checkpoint, a converted or released model, a `.pt` file of the
            facebookresearch/DiT repository, or a file of `harope.save_encoding`. For a run that
            fine-tuned FLUX, only the encoding is loaded.
        weights: "ema" or "model".
        grid: Number of image tokens along y and x; by default that of the training, or else
            16 x 16.

    Returns:
        The model with its layers, or the encoding alone.

    Raises:
        ValueError: The path holds none of these.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: pass a run, a checkpoint or an encoding file")
    if path.suffix == ".safetensors" or (path / FILE).is_file():
        return _encoding_file(path, grid)
    train = find_train_config(path) if path.is_dir() else None
    if isinstance(train, FluxLoraConfig):
        return _flux(path, grid, train)
    if isinstance(train, ClassifyConfig):
        inspected = _vit(path, weights, grid, train)
    elif isinstance(train, TextToImageConfig):
        inspected = _mmdit(path, weights, grid, train)
    else:
        inspected = _dit(path, weights, grid, train)
    return replace(inspected, origin=stored_origin(path) if path.is_dir() else None)


def _dit(path: Path, weights: str, grid: Grid | None, train: RunConfig | None) -> InspectedModel:
    model = DiT.from_checkpoint(path, weights=weights)
    config = model.config
    sizes = grid or _grid(config.input_size, config.patch_size)
    labels = (torch.zeros(1, dtype=torch.long),) if config.num_classes else ()
    image = _blank(config.in_channels, sizes, config.patch_size)
    return InspectedModel(
        title=f"DiT of depth {config.depth} and width {config.width}, "
        f"encoding {_encoding_title(config.encoding, config.encoding_options)}",
        layers=model_layers(model),
        sizes=sizes,
        patch_size=config.patch_size,
        model=model,
        example=(image, torch.zeros(1), *labels),
        train=train,
        make_initial=lambda: DiT(config),
    )


def _vit(path: Path, weights: str, grid: Grid | None, train: RunConfig) -> InspectedModel:
    model: VisionTransformer
    model, config = read_vit(path, weights=weights)
    patch = vit_patch_size(model)
    sizes = grid or _grid(config.input_size, patch)
    return InspectedModel(
        title=f"ViT of depth {len(model.blocks)} and width {model.embed_dim}, "
        f"encoding {_encoding_title(config.encoding, config.encoding_options)}",
        layers=model_layers(model),
        sizes=sizes,
        num_prefix_tokens=model.num_prefix_tokens,
        patch_size=patch,
        model=model,
        example=(_blank(config.in_channels, sizes, patch),),
        train=train,
        make_initial=lambda: create_vit(config),
    )


def _mmdit(path: Path, weights: str, grid: Grid | None, train: TextToImageConfig) -> InspectedModel:
    model: Any
    model, described = read_mmdit(path, weights=weights)
    config, input_size = model.config, described["input_size"]
    sizes = grid or _grid(input_size, config.patch_size)
    text = text_length(train.text)
    return InspectedModel(
        title=f"MMDiT of depth {config.num_layers} and width {model.inner_dim}, "
        f"encoding {_encoding_title(described['encoding'], described['encoding_options'])}",
        layers=model_layers(model),
        sizes=sizes,
        num_text_tokens=text,
        patch_size=config.patch_size,
        model=model,
        example=(
            _blank(config.in_channels, sizes, config.patch_size),
            torch.zeros(1, text, config.joint_attention_dim),
            torch.zeros(1, config.pooled_projection_dim),
            torch.zeros(1),
        ),
        train=train,
        make_initial=lambda: create_mmdit(replace(train.model, input_size=tuple(input_size))),
    )


def _flux(path: Path, grid: Grid | None, train: FluxLoraConfig) -> InspectedModel:
    adapters = path / ADAPTERS
    if not (adapters / FILE).is_file():
        raise ValueError(
            f"{path} was trained by {train.recipe}, but there is no {adapters / FILE}: pass the "
            f"folder of a completed run"
        )
    return _encoding_file(adapters, grid)


def _blank(channels: int, sizes: Grid, patch: int) -> Tensor:
    height, width = (patch * size for size in sizes)
    return torch.zeros(1, channels, height, width)


def _grid(input_size: Sequence[int] | None, patch: int) -> Grid:
    if input_size is None:
        return DEFAULT_GRID
    height, width = input_size
    return height // patch, width // patch


def _encoding_file(path: Path, grid: Grid | None) -> InspectedModel:
    described = read_description(path)
    tensors = load_file(path if path.is_file() else path / FILE)
    layers = []
    for name in described["layers"]:
        encoding, prefix = _create_encoding(described, name), f"{name}.harope."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        try:
            encoding.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"The weights in {path} do not fit its configuration: {error}; save the encoding "
                f"again"
            ) from None
        layers.append(AttentionLayer(name=name, encoding=encoding.eval(), projections=None))
    if not layers:
        raise ValueError(
            f"{path} holds {described['name']!r}, which is added to the tokens and not part of "
            f"the attention: only encodings of attentions can be inspected"
        )
    name = _encoding_title(described["name"], described["options"])
    title = f"encoding {name} of {described['model']}, without the model"
    return InspectedModel(title=title, layers=layers, sizes=grid or DEFAULT_GRID)


def _encoding_title(name: str, options: Mapping[str, Any]) -> str:
    """Return the name of the preset that equals `name` with options, or both."""
    config = encoding_config(name, **options)
    equal = [preset for preset in list_encodings() if encoding_config(preset) == config]
    listed = ", ".join(f"{option} {value}" for option, value in options.items())
    return equal[0] if equal else f"{name} ({listed})"


def _create_encoding(described: dict[str, Any], layer: str) -> PositionalEncoding:
    """Create the encoding of a layer, including a rotation that the model itself computes."""
    options, model_rotation = described["options"], described.get("kept_rotation")
    if model_rotation:
        options = options | {"frequencies": "axial"} | model_rotation
    num_heads, head_dim = described["layers"][layer]
    return create_encoding(
        described["name"],
        num_heads=num_heads,
        head_dim=head_dim,
        num_axes=next(host.num_axes for host in INTEGRATIONS if host.title == described["model"]),
        **options,
    )
