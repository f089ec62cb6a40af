"""Positions of tokens, as data that flows through `forward`.

A position is a row with one number per axis, in float32, because bfloat16 cannot count past 256.
Axes are in array order, (y, x) for images and (t, y, x) for video; tokens are in row-major order.
"""

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
