"""Fixed wave vectors in directions that are spread over all axes: golden gate, spiral, simplex.

None of them has parameters. Where a publication draws directions at random or leaves a value open,
this is said in the class.
"""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor

from harope.rope._fast.execution import float64_device
from harope.rope.config import EncodingConfig
from harope.rope.frequencies import (
    FixedFrequencies,
    Frequencies,
    check_head_dim,
    linear_angles,
    spectrum,
)
from harope.rope.positions import as_positions
from harope.rope.scaling import SPECTRAL_METHODS, Scaling, rescale_positions

Directions = Float[Tensor, "axes count"]


class DirectionalFrequencies(FixedFrequencies):
    """Frequencies whose wave vectors mix the axes, so that no axis has a spectrum to rescale."""

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        positions = rescale_positions(as_positions(positions, self.num_axes), self.scaling)
        return linear_angles(positions, self.wave_vectors(positions.device))

    def check_scaling(self, scaling: Scaling) -> None:
        super().check_scaling(scaling)
        if scaling.method in SPECTRAL_METHODS:
            raise ValueError(
                f"{scaling.method} scaling rescales the spectrum of an axis, but the wave vectors "
                f"of {self.name!r} mix the axes: use interpolate or extrapolate"
            )


class Golden(DirectionalFrequencies):
    """Golden gate RoPE: directions of a low-discrepancy sequence over all heads and pairs.

        magnitudes   w_j = min (max / min)^(j / (F - 1)), j = 0 ... F - 1, ascending
        directions   number i = 1, 2, ... over heads, then pairs: z_a = frac(i / g^a) and
                     u_i = normalised erfinv(2 z - 1), with g^(n + 1) = g + 1 for n axes

    Pair j of head h turns by w_j u_i . p. Source: J. Xiong, "On n-dimensional rotary positional
    embeddings", 2025 (jerryxio.ng/posts/nd-rope). What is certain is the formula; the bounds of the
    magnitudes differ between implementations (0.2 to 20 and 0.8 to 10 with coordinates from -1 to
    1). The share of pairs without rotation, which some have, is `rotary_fraction`.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position.
        num_heads: Heads.
        min_frequency: Lowest magnitude, in radians per unit of position.
        max_frequency: Highest magnitude.
    """

    name = "golden"
    options = (*Frequencies.options, "min_frequency", "max_frequency")

    def __init__(
        self,
        head_dim: int,
        num_axes: int,
        *,
        num_heads: int = 1,
        min_frequency: float = 0.2,
        max_frequency: float = 20.0,
    ) -> None:
        super().__init__()
        check_head_dim(head_dim)
        self.head_dim, self.num_axes, self.num_heads = head_dim, num_axes, num_heads
        self.min_frequency, self.max_frequency = min_frequency, max_frequency

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Golden":
        return cls(
            head_dim,
            num_axes,
            num_heads=num_heads,
            min_frequency=config.min_frequency,
            max_frequency=config.max_frequency,
        )

    @classmethod
    def check_config(cls, config: EncodingConfig) -> None:
        super().check_config(config)
        if config.min_frequency > config.max_frequency:
            raise ValueError(
                f"min_frequency {config.min_frequency} is above max_frequency "
                f"{config.max_frequency}: exchange them"
            )
        if config.rotary_spectrum == "full":
            raise ValueError(
                "rotary_spectrum 'full' keeps the first pairs of a spectrum, but golden "
                "frequencies ascend: use rotary_spectrum 'own'"
            )

    def wave_vectors(self, device: torch.device) -> Float[Tensor, "axes heads pairs"]:
        pairs = self.head_dim // 2
        ratio = self.max_frequency / self.min_frequency
        exponents = torch.arange(pairs, dtype=torch.float64, device=float64_device(device))
        magnitudes = self.min_frequency * ratio ** (exponents / max(pairs - 1, 1))
        directions = golden_directions(self.num_heads * pairs, self.num_axes, device)
        vectors = directions.unflatten(-1, (self.num_heads, pairs)) * magnitudes
        return vectors.to(device=device, dtype=torch.float32)


class Spiral(DirectionalFrequencies):
    """Spiral RoPE (arXiv 2602.03227): K directions over half a turn share the spectrum of axial.

    Direction k is at k pi / K from y to x and has d / (2K) pairs, in blocks in the order of k.
    Neighbouring frequencies (0, 1), (2, 3), ... go in turn to the perpendicular couples of
    directions k and k + K/2, so that each frequency occurs on two perpendicular directions. K = 2
    is axial.

    The assignment is certain. Which axis has the cosine, K, theta and the factor on the spectrum
    (1.5 for ViT in a third-party implementation: `frequency_scale`) are not.

    Args:
        head_dim: Channels per head, a multiple of 4K.
        num_axes: 2; the method is only defined in the plane.
        num_directions: K, even.
        theta: Base of the spectrum.
        scale: Factor on all frequencies.
    """

    name = "spiral"
    options = (*Frequencies.options, "theta", "frequency_scale", "num_directions")

    def __init__(
        self,
        head_dim: int,
        num_axes: int = 2,
        *,
        num_directions: int = 4,
        theta: float = 10000.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if num_axes != 2:
            raise ValueError(
                f"spiral frequencies are only defined for the 2 axes of an image, got num_axes "
                f"{num_axes}: use golden or simplex"
            )
        if num_directions < 2 or num_directions % 2:
            raise ValueError(f"num_directions {num_directions} must be even and at least 2")
        if head_dim < 2 or head_dim % (4 * num_directions):
            raise ValueError(
                f"head_dim {head_dim} cannot be shared by {num_directions} directions: it must be "
                f"a multiple of {4 * num_directions} (or pass another num_directions)"
            )
        self.head_dim, self.num_axes = head_dim, num_axes
        self.num_directions, self.theta, self.scale = num_directions, theta, scale

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Spiral":
        return cls(
            head_dim,
            num_axes,
            num_directions=config.num_directions,
            theta=config.theta,
            scale=config.frequency_scale,
        )

    def wave_vectors(self, device: torch.device) -> Float[Tensor, "axes heads pairs"]:
        count = self.num_directions
        values = spectrum(self.head_dim // 2, self.theta, scale=self.scale, device=device)
        # (couples of neighbours, couples of directions, 2 neighbours) to (directions, frequencies)
        shared = values.unflatten(0, (-1, count // 2, 2)).transpose(0, 1).flatten(1)
        magnitudes = shared.repeat(2, 1)
        angles = torch.arange(count, device=device) * (math.pi / count)
        vectors = torch.stack([angles.cos(), angles.sin()])[..., None] * magnitudes
        return vectors.flatten(1)[:, None]

    def blocks(self) -> tuple[int, ...]:
        return (self.head_dim // (2 * self.num_directions),) * self.num_directions


class Simplex(DirectionalFrequencies):
    """nD-RoPE (arXiv 2606.12146): at every scale, the n + 1 directions of a simplex, per head.

    With S = floor(d / (2 (n + 1))) scales theta^(-s / S), pair (m, s) of head h turns by
    theta^(-s / S) (Q_h v_m) . p, where the unit vectors v_m sum to 0 and have equal angles to each
    other, and Q_h is a rotation. The d/2 - S (n + 1) pairs that are left over are not rotated.

    The simplex and the scales are certain. Whether rotations belong to heads (as here and in
    GraphNeT), scales or layers is not, nor the theta of the experiments. The paper advises theta <=
    exp(d / (2 n (n + 1))). Its rotations are random; here they come from a low-discrepancy
    sequence, so that they need not be stored and are the same in all layers.

    Args:
        head_dim: Channels per head, at least 2 (n + 1).
        num_axes: Numbers per position, n.
        num_heads: Heads.
        theta: Ratio of the highest to the lowest scale.
    """

    name = "simplex"
    options = (*Frequencies.options, "theta")

    def __init__(
        self, head_dim: int, num_axes: int, *, num_heads: int = 1, theta: float = 100.0
    ) -> None:
        super().__init__()
        check_head_dim(head_dim)
        if head_dim < 2 * (num_axes + 1):
            raise ValueError(
                f"head_dim {head_dim} has {head_dim // 2} pairs, fewer than the {num_axes + 1} "
                f"directions of a simplex over {num_axes} axes: use heads of at least "
                f"{2 * (num_axes + 1)} channels"
            )
        self.head_dim, self.num_axes = head_dim, num_axes
        self.num_heads, self.theta = num_heads, theta

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Simplex":
        return cls(head_dim, num_axes, num_heads=num_heads, theta=config.theta)

    def wave_vectors(self, device: torch.device) -> Float[Tensor, "axes heads pairs"]:
        axes, pairs = self.num_axes, self.head_dim // 2
        scales = pairs // (axes + 1)
        directions = _rotations(self.num_heads, axes, device) @ simplex(axes, device)
        steps = torch.arange(scales, dtype=torch.float64, device=directions.device)
        vectors = directions[..., None] * self.theta ** (-steps / scales)
        vectors = vectors.transpose(0, 1).flatten(2)
        left = pairs - vectors.shape[-1]
        return torch.nn.functional.pad(vectors, (0, left)).to(device=device, dtype=torch.float32)

    def blocks(self) -> tuple[int, ...]:
        scales = self.head_dim // 2 // (self.num_axes + 1)
        left = self.head_dim // 2 - scales * (self.num_axes + 1)
        return (scales,) * (self.num_axes + 1) + (left,) * (left > 0)


def golden_directions(count: int, num_axes: int, device: torch.device) -> Directions:
    """Compute the first unit vectors of the golden gate sequence, in float64.

    Args:
        count: Number of vectors.
        num_axes: Numbers per vector.
        device: Device of the result, or the CPU for MPS.
    """
    # Positive root of g^(n + 1) = g + 1, by a fixed-point iteration.
    root = 1.5
    for _ in range(64):
        root = (root + 1) ** (1 / (num_axes + 1))
    index = torch.arange(1, count + 1, dtype=torch.float64, device=float64_device(device))
    spread = [(2 * ((index / root ** (axis + 1)) % 1) - 1).erfinv() for axis in range(num_axes)]
    vectors = torch.stack(spread)
    return vectors / vectors.norm(dim=0)


def simplex(num_axes: int, device: torch.device) -> Float[Tensor, "axes corners"]:
    """Compute the corners of a regular simplex around the origin, n + 1 unit vectors, in float64.

    Args:
        num_axes: Numbers per vector, n.
        device: Device of the result, or the CPU for MPS.
    """
    corners = torch.zeros(
        num_axes, num_axes + 1, dtype=torch.float64, device=float64_device(device)
    )
    # Row a is orthogonal to the rows before it and to (1, ..., 1).
    for axis in range(num_axes):
        rest = num_axes - axis
        length = math.sqrt((num_axes + 1) / num_axes / (rest * (rest + 1)))
        corners[axis, axis].fill_(rest * length)
        corners[axis, axis + 1 :].fill_(-length)
    return corners


def _rotations(
    num_heads: int, num_axes: int, device: torch.device
) -> Float[Tensor, "heads axes axes"]:
    """Compute a rotation per head from a low-discrepancy sequence of directions, in float64."""
    directions = golden_directions(num_heads * num_axes, num_axes, device)
    columns: list[Tensor] = []
    # Gram-Schmidt, which needs no solver that would make the host wait for a GPU.
    for vector in directions.unflatten(-1, (num_axes, num_heads)).unbind(1):
        for column in columns:
            vector = vector - column * (column * vector).sum(0)
        columns.append(vector / vector.norm(dim=0))
    matrices = torch.stack(columns, dim=1).permute(2, 0, 1)
    # The last column is turned where the matrix is a reflection.
    sign = torch.linalg.det(matrices).sign() if num_axes > 1 else matrices[:, 0, 0].sign()
    return torch.cat([matrices[..., :-1], matrices[..., -1:] * sign[:, None, None]], dim=-1)
