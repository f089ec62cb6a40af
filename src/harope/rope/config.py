"""EncodingConfig, and the components that it selects by name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from harope._utils.argument_checks import check_fields, check_sizes
from harope._utils.field_checks import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_FRACTION,
    check_range,
)
from harope.rope.rotate import Layout

Part = Literal["positions", "frequencies", "basis", "embedding"]
Pairing = Literal["same", "inverse"]
OrthogonalMap = Literal["exp", "cayley"]
RotarySpectrum = Literal["own", "full"]
NormalizeBy = Literal["axis", "max", "min"]


class Component:
    """Base of the classes that a field of EncodingConfig selects by name.

    A new map of positions, family of frequencies, basis or embedding is one subclass of
    `PositionMap`, `Frequencies`, `Basis` or `AbsoluteEmbedding` that sets `name` and `options` and
    implements `from_config`.
    """

    part: ClassVar[Part]
    """The field of EncodingConfig that selects the class; set by the four base classes."""
    name: ClassVar[str]
    """Value of that field which selects the class; a class without a name cannot be selected."""
    options: ClassVar[tuple[str, ...]] = ()
    """Other fields of EncodingConfig that have an effect on the class."""

    @classmethod
    def from_config(
        cls, config: "EncodingConfig", *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Component":
        """Build the component for one layer.

        Args:
            config: The encoding.
            num_heads: Attention heads of the layer.
            head_dim: Channels per head.
            num_axes: Numbers per position.
        """
        raise NotImplementedError

    @classmethod
    def check_config(cls, config: "EncodingConfig") -> None:
        """Raise ValueError if another field of the configuration contradicts the class.

        Args:
            config: The encoding that selects the class.
        """


def components(part: Part) -> dict[str, type[Component]]:
    """Return all classes that can be selected for a part, by name.

    Args:
        part: The field of EncodingConfig that selects the classes.
    """
    return {cls.name: cls for cls in _subclasses(Component) if cls.part == part}


def _subclasses(base: type[Component]) -> Iterator[type[Component]]:
    for cls in base.__subclasses__():
        if "name" in vars(cls):
            yield cls
        yield from _subclasses(cls)


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """One positional encoding, every part replaceable.

    Raises:
        ValueError: For unknown values, for parts that contradict each other, and for fields that
            differ from their default but have no effect on the encoding.
    """

    positions: str = "index"
    """Coordinates that the frequencies see: index (positions as they are), centered (-1 to 1 over
    each axis, as in DINOv3) or unit (0 to 1, as in ComRoPE). The last two are interpolated to other
    grids by construction. Usual: index."""

    frequencies: str = "none"
    """How positions become angles: raster, axial, mixed, circulant, golden, spiral, simplex, video,
    mrope, mrope-interleaved, mm-rope, head-axes, comrope-ap, comrope-ld or liere. none: nothing is
    rotated. host: the model that the encoding is installed in keeps its own rotation, and the
    encoding is its basis alone. Usual: axial."""

    basis: str = "identity"
    """Family of the matrices A_q and A_k that each head applies before the rotation: identity,
    diagonal, block-orthogonal, orthogonal, svd, svd-conditional, free or fourier. From identity to
    svd and free the number of parameters per matrix grows from 0 to head_dim^2. Usual: svd
    (HARoPE), identity (RoPE)."""

    embedding: str = "none"
    """Absolute embedding that is added to the tokens once: none, sincos or learned. Excludes
    frequencies."""

    theta: float = 10000.0
    """Base of the geometric spectrum; the longest wavelength is about 2 pi theta tokens. Larger:
    lower frequencies, which tell distant tokens apart; smaller: more channels for short distances.
    Usual: 10000; 10 to 100 for mixed."""

    axes_dim: tuple[int, ...] | None = None
    """Channels per axis, even and summing to head_dim; None: equal shares. More channels give an
    axis a denser spectrum. Usual: None for images, (16, 56, 56) for FLUX. (axial)"""

    learned_frequencies: bool = False
    """Whether the spectrum is a parameter of every head (AdaRoPE; Table 9 of the HARoPE paper).
    Adds num_heads * head_dim / 2 parameters per layer, and layers can no longer share a rotation
    table. Usual: False. (axial)"""

    row_sizes: tuple[int, ...] | None = None
    """Tokens per axis of the grid whose row-major index is encoded; None: the extent of the
    positions, which must then cover complete grids. (raster)"""

    per_head: bool = True
    """Whether every head has matrices of its own, or all heads of a layer share one pair (Tables 6
    and 8 of the HARoPE paper). Usual: True. (diagonal, orthogonal, svd, free)"""

    pairing: Pairing = "inverse"
    """Relation of A_k to A_q. inverse: A_k = A_q^-T, as in HARoPE as published at CVPR 2026 and
    its released weights; at zero offset the score is q . k. same: A_k = A_q (arXiv 2510.10489v1,
    equation 7). Both agree for orthogonal matrices. (diagonal, svd, free)"""

    orthogonal_map: OrthogonalMap = "exp"
    """Map from skew-symmetric generators to rotations: exp, or cayley, which needs one linear
    solve and cannot reach half turns. Usual: exp. (orthogonal, svd)"""

    block_size: int = 4
    """Channels of each block, even and a divisor of head_dim, within which ComRoPE's matrices act.
    Larger: more parameters. Usual: 2 to 8; 2 leaves nothing to the basis. (comrope-ap,
    comrope-ld, liere, block-orthogonal)"""

    frequency_scale: float = 1.0
    """Factor on all frequencies. Usual: 1 for positions in tokens, 2 pi for centered positions
    (DINOv3). (axial, spiral)"""

    min_frequency: float = 0.2
    """Lowest frequency in radians per unit of position. Usual: 0.2 for centered positions.
    (golden)"""

    max_frequency: float = 20.0
    """Highest frequency in radians per unit of position. Usual: 20 for centered positions.
    (golden)"""

    num_directions: int = 4
    """Directions in the plane, evenly spaced over half a turn: an even number of which 4 times
    divides head_dim. 2 is axial. Usual: 4 or 8. (spiral)"""

    sections: tuple[int, ...] | None = None
    """Pairs per axis, or for head-axes heads per axis; the rest belong to the first axis or, for
    head-axes, are not rotated. None: the proportions of the publication. (mrope, mrope-interleaved,
    head-axes)"""

    rotary_fraction: float = 1.0
    """Share of the pairs that are rotated, above 0 and at most 1; the others carry content alone.
    Usual: 1; 0.25 to 0.5 in partial rotary embeddings. (every family of frequencies)"""

    rotary_spectrum: RotarySpectrum = "own"
    """Frequencies of the rotated pairs if they are a fraction. own: those of a head with as many
    channels as are rotated (GPT-NeoX). full: the highest ones of the whole head. (every family of
    frequencies, with a rotary_fraction below 1)"""

    normalize_by: NormalizeBy = "axis"
    """Size that centered and unit positions are divided by: that of the same axis (axis), or the
    largest (max) or smallest (min) of all axes, which keeps the proportions of an image that is not
    square. Usual: axis. (centered, unit)"""

    axis_scale: tuple[float, ...] | None = None
    """Factor per axis on the coordinates; None: 1. Usual: None; the strides of a video VAE in
    Lumos-1. (every map of positions)"""

    position_shift: float = 0.0
    """Largest random shift of the coordinates in training, per axis and forward. Usual: 0.
    (centered, unit)"""

    position_jitter: float = 1.0
    """Largest random factor on the coordinates in training, and one over the smallest, per axis and
    forward. Usual: 1, which is none. (centered, unit)"""

    position_rescale: float = 1.0
    """As `position_jitter`, with one factor for all axes. Usual: 1; 2 in DINOv3. (centered,
    unit)"""

    condition_dim: int | None = None
    """Channels of the model's condition vector, which the matrices depend on; harope's DiT sets it.
    (svd-conditional)"""

    layout: Layout = "interleaved"
    """Which channels form a pair: interleaved (RoFormer, FLUX) or half (LLaMA). Must be that of
    pretrained queries and keys, and makes no difference to models trained from scratch. (every
    family of frequencies)"""

    grid_sizes: tuple[int, ...] | None = None
    """Tokens per axis in training: the size of the embedding table, required for it. For centered
    and unit positions the sizes that they are divided by; None: the extent of the positions, which
    must then cover complete grids. (learned, centered, unit)"""

    def __post_init__(self) -> None:
        check_fields(self)
        for name, choices in _choices().items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is unknown: use one of {', '.join(choices)}"
                )
        for name, sizes in (("row_sizes", self.row_sizes), ("grid_sizes", self.grid_sizes)):
            if sizes is not None:
                check_sizes(name, sizes, 1)
        if self.theta <= 0:
            raise ValueError(f"theta {self.theta} must be positive: 10000 is usual")
        check_range(self, POSITIVE, "frequency_scale", "min_frequency", "max_frequency")
        check_range(self, NOT_NEGATIVE, "position_shift")
        check_range(self, AT_LEAST_ONE, "position_jitter", "position_rescale")
        check_range(self, POSITIVE_FRACTION, "rotary_fraction")
        if self.frequencies != "none" and self.embedding != "none":
            raise ValueError(
                f"frequencies {self.frequencies!r} and embedding {self.embedding!r} exclude each "
                f"other: set one of them to 'none'"
            )
        if self.positions != "index" and self.frequencies in ("none", "host"):
            raise ValueError(
                f"positions {self.positions!r} need frequencies that see them, got "
                f"{self.frequencies!r}: use frequencies 'axial', or positions 'index'"
            )
        for component in selected_components(vars(self)):
            component.check_config(self)
        if self.frequencies == "none" and self.basis != "identity":
            raise ValueError(
                f"basis {self.basis!r} needs frequencies to act with, got 'none': without a "
                f"rotation, a basis is part of the projections"
            )
        effective = effective_options(vars(self))
        for field in fields(self):
            if getattr(self, field.name) != field.default and field.name not in effective:
                raise ValueError(no_effect_message(self, field.name))


def has_effect(config: EncodingConfig, option: str) -> bool:
    """Return whether a field of the configuration has an effect on the encoding.

    Args:
        config: The encoding.
        option: Name of a field.
    """
    return option in effective_options(vars(config))


def effective_options(values: Mapping[str, Any]) -> set[str]:
    """Return the fields that have an effect together with these values of the parts.

    Args:
        values: Fields by name, among them the parts.
    """
    options = {option for component in selected_components(values) for option in component.options}
    return options | set(get_args(Part))


def selected_components(values: Mapping[str, Any]) -> list[type[Component]]:
    """Return the classes that these values of the parts select.

    Args:
        values: Fields by name, among them the parts.
    """
    return [cls for cls in _subclasses(Component) if cls.name == values[cls.part]]


def no_effect_message(config: EncodingConfig, option: str) -> str:
    """Return the error for a field without effect: which it is, and what it is used with.

    Args:
        config: The encoding.
        option: Name of the field.
    """
    readers = {
        part: [name for name, cls in components(part).items() if option in cls.options]
        for part in get_args(Part)
    }
    readers = {part: names for part, names in readers.items() if names}
    given = " and ".join(f"{part} {getattr(config, part)!r}" for part in readers)
    usable = " or ".join(f"{part} {', '.join(names)}" for part, names in readers.items())
    return (
        f"{option} has no effect with {given}: leave it out; it is only used with {usable}, "
        f"got {getattr(config, option)!r}"
    )


def _choices() -> dict[str, tuple[str, ...]]:
    return {
        "positions": tuple(components("positions")),
        "frequencies": ("none", "host", *components("frequencies")),
        "basis": tuple(components("basis")),
        "embedding": ("none", *components("embedding")),
        "pairing": get_args(Pairing),
        "orthogonal_map": get_args(OrthogonalMap),
        "layout": get_args(Layout),
    }
