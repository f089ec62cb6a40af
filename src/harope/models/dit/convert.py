"""Reads facebookresearch/DiT checkpoints: `.pt` files of DiT, with or without HARoPE.

The architecture is inferred from the shapes of the weights. Files are opened with
`weights_only=True`; in addition to tensors and plain containers, only `argparse.Namespace` is
allowed, which the files contain as `args`.
"""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harope.models.dit.config import DiTConfig, standard_num_heads
from harope.rope import create_encoding, grid_positions
from harope.rope.basis import skew_entries

# The HARoPE checkpoints parametrise a scale as s = softplus(sigma) + 1e-6.
SCALE_FLOOR = 1e-6


def read_dit_checkpoint(
    path: Path, *, weights: str = "ema", num_heads: int | None = None
) -> tuple[DiTConfig, dict[str, Tensor]]:
    """Read a facebookresearch/DiT checkpoint.

    Args:
        path: A `.pt` file: a dict with "model" and "ema", or a state dict.
        weights: "ema" or "model"; has no effect if the file is a state dict.
        num_heads: Number of attention heads, needed only for a DiT without HARoPE whose depth and
            width are not those of a model of the paper.

    Returns:
        The configuration, and the state dict of a `DiT` created from it.

    Raises:
        ValueError: If the file is truncated, contains code, or is not a DiT checkpoint, or if its
            number of heads or its encoding cannot be inferred.
    """
    content = _load(path)
    state = content.get(weights, content) if isinstance(content, Mapping) else {}
    patches = state.get("x_embedder.proj.weight") if isinstance(state, Mapping) else None
    if not isinstance(patches, Tensor) or patches.ndim != 4:
        raise ValueError(
            f"{path} is not a facebookresearch/DiT checkpoint: it has no x_embedder.proj.weight "
            f"under {weights!r}"
        )
    args = content.get("args")
    known = vars(args) if isinstance(args, argparse.Namespace) else {}
    return _convert(dict(state), known, path, num_heads)


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} would run code when opened, or is not a checkpoint; it was not loaded: ask "
            f"its author for a file that contains only tensors"
        ) from None
    except Exception as error:
        # Damaged files can raise any exception.
        raise ValueError(
            f"{path} cannot be read: it is truncated, or no file of torch.save "
            f"({type(error).__name__}: {_first_line(error)})"
        ) from None


def _convert(
    state: dict[str, Tensor], args: dict[str, Any], path: Path, num_heads: int | None
) -> tuple[DiTConfig, dict[str, Tensor]]:
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{path} is not a facebookresearch/DiT checkpoint: {name} is not a tensor"
            )
    try:
        config = _architecture(state, args, path, num_heads)
    except KeyError as error:
        raise ValueError(f"{path} is not a facebookresearch/DiT checkpoint: no {error}") from None
    converted = {
        name: value
        for name, value in state.items()
        if not re.search("pos_embed|learnable_rot", name)
    }
    for index in range(config.depth if config.encoding == "harope" else 0):
        source, target = f"blocks.{index}.attn.learnable_rot.", f"blocks.{index}.attn.harope.basis."
        converted[target + "skew_u"] = skew_entries(state[source + "A_u"].float())
        converted[target + "skew_v"] = skew_entries(state[source + "A_v"].float())
        converted[target + "raw_scale"] = _raw_scale(state[source + "sigma"])
    if config.encoding == "ape-learned":
        converted["pos_embed.embedding.table"] = state["pos_embed"][0]
    return config, converted


def _architecture(
    state: dict[str, Tensor], args: dict[str, Any], path: Path, heads: int | None
) -> DiTConfig:
    width, channels, patch, _ = state["x_embedder.proj.weight"].shape
    depth = sum(bool(re.fullmatch(r"blocks\.\d+\.attn\.qkv\.weight", name)) for name in state)
    outputs = len(state["final_layer.linear.weight"]) // patch**2
    rows = len(state["y_embedder.embedding_table.weight"])
    # The last row is the null class, unless the arguments say that there are as many classes.
    num_classes = rows if args.get("num_classes") == rows else rows - 1
    encoding, options = _encoding(state, path)
    rotation = state.get("blocks.0.attn.learnable_rot.A_u")
    heads = len(rotation) if rotation is not None else heads or standard_num_heads(depth, width)
    if heads is None:
        raise ValueError(
            f"a DiT of depth {depth} and width {width} is not a model of the DiT paper, so its "
            f"number of heads is unknown: pass num_heads"
        )
    return DiTConfig(
        depth=depth,
        width=width,
        num_heads=heads,
        patch_size=patch,
        in_channels=channels,
        num_classes=num_classes,
        # Any value above 0 means that there is a null class.
        label_dropout=0.1 if rows > num_classes else 0.0,
        learned_variance=outputs == 2 * channels,
        input_size=_input_size(state, args, patch),
        mlp_ratio=len(state["blocks.0.mlp.fc1.weight"]) / width,
        encoding=encoding,
        encoding_options=options,
    )


def _input_size(
    state: dict[str, Tensor], args: dict[str, Any], patch: int
) -> tuple[int, int] | None:
    if "pos_embed" in state:
        side = patch * round(state["pos_embed"].shape[1] ** 0.5)
    elif "image_size" in args:
        # Stable Diffusion's VAE reduces the image size by a factor of 8.
        side = args["image_size"] // 8
    else:
        return None
    return side, side


def _encoding(state: dict[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    if "blocks.0.attn.learnable_rot.A_u" in state:
        return "harope", {}
    if "pos_embed" not in state:
        # Other rotary encodings have no weights to recognise them by.
        raise ValueError(
            f"{path} has neither pos_embed nor learnable_rot, so its encoding is unknown: create "
            f"the DiT with the encoding it was trained with and load the weights into it"
        )
    table = state["pos_embed"][0].float()
    side = round(len(table) ** 0.5)
    sincos = create_encoding("ape", num_heads=1, head_dim=table.shape[1], num_axes=2)
    if side**2 == len(table):
        fixed = sincos.embed(grid_positions(side, side))
        if fixed is not None and torch.allclose(fixed, table, atol=1e-4):
            return "ape", {}
    return "ape-learned", {"grid_sizes": (side, len(table) // side)}


def _raw_scale(sigma: Tensor) -> Tensor:
    """Invert softplus at s = softplus(sigma) + 1e-6: log(exp(s) - 1)."""
    scale = F.softplus(sigma.double()) + SCALE_FLOOR
    return (scale + torch.log(-torch.expm1(-scale))).float()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
