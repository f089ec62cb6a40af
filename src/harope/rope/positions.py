"""Positions of tokens, as data that flows through `forward`.

A position is a row with one number per axis, in float32, because bfloat16 cannot count past 256.
Axes are in array order, (y, x) for images and (t, y, x) for video; tokens are in row-major order.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor

from harope._utils.argument_checks import check_integer, check_real, check_sizes, check_tensor


def grid_positions(
    *sizes: int, device: torch.device | str | None = None
) -> Float[Tensor, "tokens axes"]:
    """Return the positions of a grid of tokens, the last axis varying fastest.

    Args:
        sizes: Tokens per axis: `grid_positions(height, width)` has the columns (y, x).
        device: Device of the result.

    Returns:
        Positions in float32, one row per token.

    Raises:
        ValueError: If a size is not a positive whole number.
    """
    check_sizes("grid sizes", sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(
            f"grid sizes must be positive whole numbers, got {sizes}: pass one per axis"
        )
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def text_image_positions(
    num_text: int, height: int, width: int, *, device: torch.device | str | None = None
) -> Float[Tensor, "tokens 3"]:
    """Return the positions of a text followed by an image, with FLUX's axes (index, y, x).

    All text tokens are at the origin, where nothing is rotated; the index of the image is 0.

    Args:
        num_text: Text tokens.
        height: Rows of image tokens.
        width: Columns of image tokens.
        device: Device of the result.

    Raises:
        ValueError: If num_text is negative or another size is not positive.
    """
    _check_text(num_text)
    image = grid_positions(1, height, width, device=device)
    return torch.cat([image.new_zeros(num_text, 3), image])


def video_positions(
    frames: int,
    height: int,
    width: int,
    *,
    num_text: int = 0,
    frame_stride: float = 2.0,
    device: torch.device | str | None = None,
) -> Float[Tensor, "tokens 3"]:
    """Return the positions (t, h, w) of a text followed by a video, in VideoRoPE's diagonal layout.

    Text token i is at t = h = w = i. Frame f is at t = num_text + frame_stride * f, and its tokens
    are centred on the diagonal: h = t + row - (height - 1) // 2, and w likewise
    (VideoRoPE, arXiv 2502.05173, sections 4.2 to 4.4).

    Args:
        frames: Frames of the video.
        height: Rows of tokens per frame.
        width: Columns of tokens per frame.
        num_text: Text tokens before the video.
        frame_stride: Distance in t between frames; larger separates frames more strongly.
        device: Device of the result.

    Raises:
        ValueError: If num_text is negative or another size is not positive.
    """
    _check_text(num_text)
    check_real("frame_stride", frame_stride)
    text = torch.arange(num_text, dtype=torch.float32, device=device)[:, None].expand(-1, 3)
    frame, row, column = grid_positions(frames, height, width, device=device).unbind(-1)
    t = num_text + frame_stride * frame
    video = torch.stack([t, t + row - (height - 1) // 2, t + column - (width - 1) // 2], dim=-1)
    return torch.cat([text, video])


def text_images_positions(
    *parts: int | tuple[int, ...], device: torch.device | str | None = None
) -> Float[Tensor, "tokens 3"]:
    """Return the positions (t, h, w) of text, images and videos in a row, as in Qwen2-VL.

    Text tokens are on the diagonal, (i, i, i). An image that starts at s has t = s, and its rows
    and columns count from s. What follows starts behind the largest coordinate
    (MRoPE, arXiv 2409.12191, section 2.1).

    Args:
        parts: For each part in order, the number of text tokens, or the (height, width) of an
            image, or the (frames, height, width) of a video.
        device: Device of the result.

    Raises:
        ValueError: If there is no part, or a size is not a positive whole number.
    """
    blocks, start = [torch.zeros(0, 3, device=device)], 0
    for part in parts:
        sizes = (part,) if isinstance(part, int) else tuple(part)
        if len(sizes) == 1:
            block = grid_positions(*sizes, device=device).expand(-1, 3)
        elif len(sizes) in (2, 3):
            block = grid_positions(*(1,) * (3 - len(sizes)), *sizes, device=device)
        else:
            raise ValueError(
                f"part {part!r} must be a number of text tokens, the (height, width) of an image "
                f"or the (frames, height, width) of a video"
            )
        blocks.append(start + block)
        start += max(sizes)
    return torch.cat(blocks)


def normalize_positions(
    positions: Float[Tensor, "*batch tokens axes"],
    sizes: Sequence[int] | None = None,
    *,
    low: float = -1.0,
    high: float = 1.0,
    by: Literal["axis", "max", "min"] = "axis",
) -> Float[Tensor, "*batch tokens axes"]:
    """Divide positions by the sizes of their grid, such that each axis runs from `low` to `high`.

    Token p of N is at `low + (high - low) (p + 1/2) / N`, so that the centres of the first and the
    last token lie inside the interval.

    Args:
        positions: Positions of tokens, counted from 0 where `sizes` are given.
        sizes: Tokens per axis; None for the extent of the positions of each sample, which must then
            cover complete grids.
        low: Where an axis begins.
        high: Where it ends.
        by: Which size N is: that of the axis, or the largest or smallest of all axes.

    Raises:
        ValueError: If the sizes do not name all axes.
    """
    num_axes = positions.shape[-1]
    if sizes is not None and len(sizes) != num_axes:
        raise ValueError(
            f"sizes {tuple(sizes)} name {len(sizes)} axes but positions have {num_axes}: pass one "
            f"size per axis"
        )
    if sizes is None:
        first, lengths = _first_and_extent(positions)
        positions = positions - first
    else:
        lengths = torch.cat([positions.new_full((1,), float(size)) for size in sizes])
    if by != "axis":
        reduce = torch.amax if by == "max" else torch.amin
        lengths = reduce(lengths, -1, keepdim=True)
    return low + (high - low) * ((positions + 0.5) / lengths)


def _first_and_extent(
    positions: Float[Tensor, "*batch tokens axes"],
) -> tuple[Float[Tensor, "*batch 1 axes"], Float[Tensor, "*batch 1 axes"]]:
    """Return the smallest position of each sample, and the number of grid lines from there on."""
    if positions.shape[-2] == 0:
        zeros = positions.new_zeros(*positions.shape[:-2], 1, positions.shape[-1])
        return zeros, zeros + 1
    first = positions.amin(-2, keepdim=True)
    return first, positions.amax(-2, keepdim=True) - first + 1


def _check_text(num_text: int) -> None:
    check_integer("num_text", num_text)
    if num_text < 0:
        raise ValueError(f"num_text {num_text} must be 0 or more: pass the number of text tokens")


def as_positions(
    positions: Num[Tensor, "*batch tokens axes"], num_axes: int
) -> Float[Tensor, "*batch tokens axes"]:
    """Check positions and return them in float32 or float64.

    Args:
        positions: (tokens, axes) or (batch, tokens, axes).
        num_axes: Expected axes.

    Raises:
        ValueError: For other shapes, and for half precision, which has rounded positions already.
    """
    check_tensor("positions", positions)
    if positions.is_complex():
        raise ValueError(f"positions are {positions.dtype}: pass real numbers")
    if positions.ndim not in (2, 3) or positions.shape[-1] != num_axes:
        raise ValueError(
            f"positions have the shape {tuple(positions.shape)} but the encoding has {num_axes} "
            f"axes: pass (tokens, {num_axes}) or (batch, tokens, {num_axes})"
        )
    if positions.dtype in (torch.bfloat16, torch.float16):
        raise ValueError(
            f"positions are {positions.dtype}, which cannot tell neighbours apart on a large grid: "
            f"build them in float32"
        )
    return positions if positions.dtype == torch.float64 else positions.to(torch.float32)
