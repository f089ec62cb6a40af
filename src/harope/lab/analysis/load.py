"""From a path to what `harope inspect` looks at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harope.integrations import read_description
from harope.integrations.registry import INTEGRATIONS
from harope.integrations.serialization import FILE
from harope.lab.analysis.inspected_model import Layer, Subject, model_layers
from harope.lab.analysis.receptive_fields import Grid
from harope.lab.sampling.runs import find_train_config
from harope.lab.text.registry import text_length
from harope.lab.training.config import RunConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.flux_lora.task import ADAPTERS
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.dit import DiT
from harope.models.mmdit import create_mmdit, read_mmdit
from harope.models.vit import create_vit, read_vit, vit_patch_size
from harope.rope import PositionalEncoding, create_encoding

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

DEFAULT_GRID: Grid = (16, 16)
"""Tokens of a model that does not say what it was trained at."""


def open_subject(path: Path, *, weights: str = "ema", grid: Grid | None = None) -> Subject:
    """A run, a checkpoint, a converted or released model, a `.pt` of the DiT family, or a file of
    `harope.save_encoding`. Of a run that fine-tuned FLUX it is the encoding.

    Args:
        path: file or folder.
        weights: "ema" or "model".
        grid: tokens along y and x; by default those of the training, else 16 x 16.

    Raises ValueError where the path is none of them.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: pass a run, a checkpoint or an encoding's file")
    if path.suffix == ".safetensors" or (path / FILE).is_file():
        return _encoding_file(path, grid)
    train = find_train_config(path) if path.is_dir() else None
    if isinstance(train, ClassifyConfig):
        return _vit(path, weights, grid, train)
    if isinstance(train, TextToImageConfig):
        return _mmdit(path, weights, grid, train)
    if isinstance(train, FluxLoraConfig):
        return _flux(path, grid, train)
    return _dit(path, weights, grid, train)


def _dit(path: Path, weights: str, grid: Grid | None, train: RunConfig | None) -> Subject:
    model = DiT.from_checkpoint(path, weights=weights)
    config = model.config
    sizes = grid or _grid(config.input_size, config.patch_size)
    labels = (torch.zeros(1, dtype=torch.long),) if config.num_classes else ()
    image = _blank(config.in_channels, sizes, config.patch_size)
    return Subject(
        title=f"DiT of depth {config.depth} and width {config.width}, encoding {config.encoding}",
        layers=model_layers(model),
        sizes=sizes,
        patch_size=config.patch_size,
        model=model,
        example=(image, torch.zeros(1), *labels),
        train=train,
        fresh=lambda: DiT(config),
    )


def _vit(path: Path, weights: str, grid: Grid | None, train: RunConfig) -> Subject:
    model: VisionTransformer
    model, config = read_vit(path, weights=weights)
    patch = vit_patch_size(model)
    sizes = grid or _grid(config.input_size, patch)
    return Subject(
        title=f"ViT of depth {len(model.blocks)} and width {model.embed_dim}, "
        f"encoding {config.encoding}",
        layers=model_layers(model),
        sizes=sizes,
        prefix=model.num_prefix_tokens,
        patch_size=patch,
        model=model,
        example=(_blank(config.in_channels, sizes, patch),),
        train=train,
        fresh=lambda: create_vit(config),
    )


def _mmdit(path: Path, weights: str, grid: Grid | None, train: TextToImageConfig) -> Subject:
    model: Any
    model, described = read_mmdit(path, weights=weights)
    config, input_size = model.config, described["input_size"]
    sizes = grid or _grid(input_size, config.patch_size)
    text = text_length(train.text)
    return Subject(
        title=f"MMDiT of depth {config.num_layers} and width {model.inner_dim}, "
        f"encoding {described['encoding']}",
        layers=model_layers(model),
        sizes=sizes,
        text=text,
        patch_size=config.patch_size,
        model=model,
        example=(
            _blank(config.in_channels, sizes, config.patch_size),
            torch.zeros(1, text, config.joint_attention_dim),
            torch.zeros(1, config.pooled_projection_dim),
            torch.zeros(1),
        ),
        train=train,
        fresh=lambda: create_mmdit(replace(train.model, input_size=tuple(input_size))),
    )


def _flux(path: Path, grid: Grid | None, train: FluxLoraConfig) -> Subject:
    adapters = path / ADAPTERS
    if not (adapters / FILE).is_file():
        raise ValueError(
            f"{path} was trained by {train.recipe}, but there is no {adapters / FILE}: pass the "
            f"folder of a run that came to its end"
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


def _encoding_file(path: Path, grid: Grid | None) -> Subject:
    described = read_description(path)
    tensors = load_file(path if path.is_file() else path / FILE)
    layers = []
    for name in described["layers"]:
        encoding, prefix = _described_encoding(described, name), f"{name}.harope."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        try:
            encoding.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"{path} does not fit its own configuration: {error}") from None
        layers.append(Layer(name=name, encoding=encoding.eval(), projections=None))
    if not layers:
        raise ValueError(
            f"{path} holds {described['name']!r}, which is added to the tokens once: no head has "
            f"a part of it to look at"
        )
    title = f"encoding {described['name']} of {described['model']}, without the model"
    return Subject(title=title, layers=layers, sizes=grid or DEFAULT_GRID)


def _described_encoding(described: dict[str, Any], layer: str) -> PositionalEncoding:
    """A layer's encoding; a rotation that was left to the model is put in its place again."""
    options, kept = described["options"], described.get("kept_rotation")
    if kept:
        options = options | {"frequencies": "axial"} | kept
    num_heads, head_dim = described["layers"][layer]
    return create_encoding(
        described["name"],
        num_heads=num_heads,
        head_dim=head_dim,
        num_axes=next(host.num_axes for host in INTEGRATIONS if host.title == described["model"]),
        **options,
    )
