"""Maps of positions: the coordinates that the frequencies of an encoding see."""

from abc import abstractmethod
from typing import TypeVar

from jaxtyping import Float, Num
from torch import Tensor, nn

from harope.rope.config import Component, EncodingConfig, NormalizeBy
from harope.rope.positions import as_positions, normalize_positions
from harope.rope.scaling import Scalable, Scaling, per_axis

Normalized = TypeVar("Normalized", bound="NormalizedPositions")


class PositionMap(nn.Module, Component):
    """Interface of all maps: positions of tokens to the coordinates that frequencies see."""

    part = "positions"

    @abstractmethod
    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens axes"]:
        """Map positions to coordinates, in float32 or float64.

        Args:
            positions: One row per token, (tokens, axes) or (batch, tokens, axes).
        """


class IndexPositions(PositionMap):
    """Positions as they are, times a factor per axis.

    Args:
        num_axes: Numbers per position.
        axis_scale: Factor per axis; None for 1.
    """

    name = "index"
    options = ("axis_scale",)

    def __init__(self, num_axes: int, *, axis_scale: tuple[float, ...] | None = None) -> None:
        super().__init__()
        check_axis_scale(axis_scale, num_axes)
        self.num_axes, self.axis_scale = num_axes, axis_scale

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "IndexPositions":
        return cls(num_axes, axis_scale=config.axis_scale)

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens axes"]:
        positions = as_positions(positions, self.num_axes)
        if self.axis_scale is None:
            return positions
        return positions * per_axis(self.axis_scale, positions)


class NormalizedPositions(PositionMap, Scalable):
    """Positions divided by the size of the grid, and shifted and scaled at random in training.

    Token p of N is at (p + 1/2) / N of the length of an axis. N is the extent of the positions or,
    if given, the size in training. While a scaling is set, N is its trained size, so that the
    method of the scaling decides what happens to other sizes.

    In training mode, every forward draws a shift per axis, then a factor per axis, then a factor
    for all axes (DINOv3, arXiv 2508.10104, section 3.2). Layers that compute their own rotation
    tables, because their frequencies are learned, draw their own.

    Args:
        num_axes: Numbers per position.
        sizes: Tokens per axis; None for the extent of the positions.
        by: Size that positions are divided by: that of the same axis ("axis"), or the largest
            ("max") or smallest ("min") of all axes.
        axis_scale: Factor per axis; None for 1.
        shift: Largest shift in training, in coordinates.
        jitter: Largest factor per axis in training.
        rescale: Largest common factor in training.
    """

    low: float
    high: float
    learned = False
    options = (
        *("grid_sizes", "normalize_by", "axis_scale"),
        *("position_shift", "position_jitter", "position_rescale"),
    )

    def __init__(
        self,
        num_axes: int,
        *,
        sizes: tuple[int, ...] | None = None,
        by: NormalizeBy = "axis",
        axis_scale: tuple[float, ...] | None = None,
        shift: float = 0.0,
        jitter: float = 1.0,
        rescale: float = 1.0,
    ) -> None:
        super().__init__()
        if sizes is not None and len(sizes) != num_axes:
            raise ValueError(
                f"grid_sizes {sizes} name {len(sizes)} axes but num_axes is {num_axes}: pass one "
                f"size per axis"
            )
        check_axis_scale(axis_scale, num_axes)
        self.num_axes, self.sizes, self.by, self.axis_scale = num_axes, sizes, by, axis_scale
        self.shift, self.jitter, self.rescale = shift, jitter, rescale

    @classmethod
    def from_config(
        cls: type[Normalized],
        config: EncodingConfig,
        *,
        num_heads: int,
        head_dim: int,
        num_axes: int,
    ) -> Normalized:
        return cls(
            num_axes,
            sizes=config.grid_sizes,
            by=config.normalize_by,
            axis_scale=config.axis_scale,
            shift=config.position_shift,
            jitter=config.position_jitter,
            rescale=config.position_rescale,
        )

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens axes"]:
        positions = as_positions(positions, self.num_axes)
        sizes = self.scaling.train_sizes if self.scaling else self.sizes
        coordinates = normalize_positions(
            positions, sizes, low=self.low, high=self.high, by=self.by
        )
        if self.axis_scale is not None:
            coordinates = coordinates * per_axis(self.axis_scale, coordinates)
        return self._augment(coordinates) if self.training else coordinates

    def check_scaling(self, scaling: Scaling) -> None:
        super().check_scaling(scaling)
        if scaling.method in ("yarn", "riflex"):
            raise ValueError(
                f"{scaling.method} scaling counts turns per token, but the positions are "
                f"{self.name!r}: use interpolate or ntk, or no scaling, which interpolates"
            )

    def _augment(
        self, coordinates: Float[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens axes"]:
        if self.shift:
            limit = coordinates.new_empty(self.num_axes).uniform_(-self.shift, self.shift)
            coordinates = coordinates + limit
        for count, factor in ((self.num_axes, self.jitter), (1, self.rescale)):
            if factor > 1:
                # exp(U(-log f, log f))
                drawn = coordinates.new_empty(count).uniform_(-1, 1)
                coordinates = coordinates * coordinates.new_full((), factor) ** drawn
        return coordinates


class CenteredPositions(NormalizedPositions):
    """Coordinates from -1 to 1 over each axis, the centres of the first and last token inside.

    `2 (p + 1/2) / N - 1`, as in DINOv3 (arXiv 2508.10104).
    """

    name = "centered"
    low, high = -1.0, 1.0


class UnitPositions(NormalizedPositions):
    """Coordinates from 0 to 1 over each axis: `(p + 1/2) / N`, as in ComRoPE (arXiv 2506.03737)."""

    name = "unit"
    low, high = 0.0, 1.0


def check_axis_scale(axis_scale: tuple[float, ...] | None, num_axes: int) -> None:
    """Raise ValueError unless there is one factor per axis.

    Args:
        axis_scale: Factors; None for none.
        num_axes: Numbers per position.
    """
    if axis_scale is not None and len(axis_scale) != num_axes:
        raise ValueError(
            f"axis_scale {axis_scale} names {len(axis_scale)} axes but num_axes is {num_axes}: "
            f"pass one factor per axis"
        )
