"""What `harope inspect` looks at: a model with its attentions, or an encoding without its model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from harope.evaluation.receptive import Grid
from harope.generation.loading import find_train_config
from harope.hosts import read_description
from harope.hosts.files import FILE
from harope.hosts.registry import HOSTS, find_host
from harope.models import DiT
from harope.rope import NoEncoding, PositionalEncoding, create_encoding
from harope.training.classification import ClassifyConfig
from harope.training.config import RunConfig, TrainConfig
from harope.training.vit import ViTConfig, create_vit, read_vit, vit_patch_size

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

DEFAULT_GRID: Grid = (16, 16)
"""Tokens of a model that does not say what it was trained at."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One attention."""

    name: str
    """Its path in the model."""
    encoding: PositionalEncoding
    """Its encoding; one that does nothing where it has none."""
    projections: tuple[Tensor, Tensor] | None
    """Of queries and keys, each (heads, head_dim, width + 1): what white tokens meet, the last
    column being the bias. None without a model, and where a norm of q and k stands after them."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is looked at."""

    title: str
    """One line: what it is."""
    layers: list[Layer]
    """All attentions."""
    sizes: Grid
    """Tokens along y and x."""
    prefix: int = 0
    """Tokens without a place, which come first."""
    patch_size: int = 1
    """Pixels or latents along the side of a token."""
    model: nn.Module | None = None
    """None for an encoding alone."""
    config: Any = None
    """Architecture of the model: DiTConfig or ViTConfig."""
    train: RunConfig | None = None
    """How it was trained, where that is known."""

    def initial(self) -> "Subject | None":
        """The same before its training: the weights that its seed drew. None where unknown."""
        if self.train is None or self.model is None:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.train.seed)
            # As the tasks do, which draw nothing before.
            is_vit = isinstance(self.config, ViTConfig)
            model = create_vit(self.config) if is_vit else DiT(self.config)
        return replace(self, model=model.eval(), layers=model_layers(model))


def open_subject(path: Path, *, weights: str = "ema", grid: Grid | None = None) -> Subject:
    """A run, a checkpoint, a converted or released model, a `.pt` of the DiT family, or a file of
    `harope.save_encoding`.

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
    if train is not None and not isinstance(train, TrainConfig):
        raise ValueError(
            f"{path} was trained by {train.recipe}, whose attention is not inspected: pass a run "
            f"of a class-conditional DiT or of a ViT, or the file of its encoding"
        )
    return _dit(path, weights, grid, train)


def model_layers(model: nn.Module) -> list[Layer]:
    """The attentions of a model that a host of `harope.hosts` knows."""
    host = find_host(model)
    found = []
    for layer in host.layers(model):
        encoding = getattr(layer.attention, "harope", None)
        plain = NoEncoding(
            num_heads=layer.num_heads, head_dim=layer.head_dim, num_axes=host.num_axes
        )
        block = model.get_submodule(layer.name.rpartition(".")[0])
        sides: list[Tensor] = [
            _with_norm(part.weight, part.bias, getattr(block, "norm1", None), layer.num_heads)
            for part in host.projections(layer.attention)
        ]
        found.append(
            Layer(
                name=layer.name,
                encoding=plain if encoding is None else encoding.itself,
                projections=(sides[0], sides[1]) if len(sides) == 2 else None,
            )
        )
    return found


@torch.no_grad()
def _with_norm(
    weight: Tensor, bias: Tensor | None, norm: Any, num_heads: int
) -> Float[Tensor, "heads head_dim columns"]:
    """W diag(gamma) and W beta + b: the norm's own weights taken into the projection."""
    shift = weight.new_zeros(len(weight)) if bias is None else bias
    gamma, beta = getattr(norm, "weight", None), getattr(norm, "bias", None)
    shift = shift if beta is None else shift + weight @ beta
    scaled = weight if gamma is None else weight * gamma
    return torch.cat([scaled, shift[:, None]], dim=1).double().unflatten(0, (num_heads, -1))


def _dit(path: Path, weights: str, grid: Grid | None, train: RunConfig | None) -> Subject:
    model = DiT.from_checkpoint(path, weights=weights)
    config = model.config
    return Subject(
        title=f"DiT of depth {config.depth} and width {config.width}, encoding {config.encoding}",
        layers=model_layers(model),
        sizes=grid or _grid(config.input_size, config.patch_size),
        patch_size=config.patch_size,
        model=model,
        config=config,
        train=train,
    )


def _vit(path: Path, weights: str, grid: Grid | None, train: RunConfig) -> Subject:
    model: VisionTransformer
    model, config = read_vit(path, weights=weights)
    return Subject(
        title=f"ViT of depth {len(model.blocks)} and width {model.embed_dim}, "
        f"encoding {config.encoding}",
        layers=model_layers(model),
        sizes=grid or _grid(config.input_size, vit_patch_size(model)),
        prefix=model.num_prefix_tokens,
        patch_size=vit_patch_size(model),
        model=model,
        config=config,
        train=train,
    )


def _grid(input_size: Sequence[int] | None, patch: int) -> Grid:
    if input_size is None:
        return DEFAULT_GRID
    height, width = input_size
    return height // patch, width // patch


def _encoding_file(path: Path, grid: Grid | None) -> Subject:
    described = read_description(path)
    tensors = load_file(path if path.is_file() else path / FILE)
    num_axes = next(host.num_axes for host in HOSTS if host.title == described["model"])
    layers = []
    for name, (num_heads, head_dim) in described["layers"].items():
        encoding = create_encoding(
            described["name"],
            num_heads=num_heads,
            head_dim=head_dim,
            num_axes=num_axes,
            **described["options"],
        )
        prefix = f"{name}.harope."
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
    title = f"encoding {described['name']} of {described['model']}"
    return Subject(title=title, layers=layers, sizes=grid or DEFAULT_GRID)
