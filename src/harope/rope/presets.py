"""The encodings of the field by name: presets over frequencies x basis."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

from torch import nn

from harope.rope.absolute import AbsoluteEmbedding, Learned, SinCos
from harope.rope.basis import SVD, Basis, Diagonal, Fourier, Free, Identity, Orthogonal, Pairing
from harope.rope.circulant import Circulant
from harope.rope.encoding import Absolute, NoEncoding, PositionalEncoding, RotaryEncoding
from harope.rope.frequencies import Axial, Frequencies, Mixed, Raster, Video
from harope.rope.orthogonal import OrthogonalMap
from harope.rope.rotate import Layout

FrequencyName = Literal["none", "host", "raster", "axial", "mixed", "video", "circulant"]
BasisName = Literal["identity", "diagonal", "orthogonal", "svd", "free", "fourier"]
EmbeddingName = Literal["none", "sincos", "learned"]


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """One positional encoding, every part replaceable."""

    frequencies: FrequencyName = "none"
    """How positions become angles; none: nothing rotates; host: left to the model that the encoding
    is put into, so that the encoding is its basis alone."""
    basis: BasisName = "identity"
    """The family of the matrices A."""
    embedding: EmbeddingName = "none"
    """What is added to the tokens; only without frequencies."""
    theta: float = 10000.0
    """Base of the spectrum."""
    axes_dim: tuple[int, ...] | None = None
    """Channels of each axis (axial); by default equal shares of head_dim."""
    learned_frequencies: bool = False
    """Whether the axial spectrum is a parameter, per head (AdaRoPE; the paper's Table 9)."""
    row_sizes: tuple[int, ...] | None = None
    """Tokens per axis (raster); by default the extent of the positions."""
    per_head: bool = True
    """One matrix per head, or one for all heads of the layer (the paper's Tables 6 and 8)."""
    pairing: Pairing = "inverse"
    """How keys follow queries: A_k = A_q^-T ("inverse": HARoPE as published at CVPR 2026, and its
    released weights) or A_k = A_q ("same": arXiv 2510.10489v1, equation 7). The two agree where A
    is orthogonal. (diagonal, svd, free)"""
    orthogonal_map: OrthogonalMap = "exp"
    """How skew generators become rotations (orthogonal, svd)."""
    layout: Layout = "interleaved"
    """Which channels form a pair."""
    grid_sizes: tuple[int, ...] | None = None
    """Tokens per axis in training (learned embedding)."""

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is unknown: use one of "
                    f"{', '.join(get_args(kind))}"
                )
        if self.theta <= 0:
            raise ValueError(f"theta {self.theta} must be positive: 10000 is usual")
        if self.frequencies != "none" and self.embedding != "none":
            raise ValueError(
                f"frequencies {self.frequencies!r} and embedding {self.embedding!r} exclude each "
                f"other: set one of them to 'none'"
            )
        for option in _OFF_BY_DEFAULT:
            if getattr(self, option) and not has_effect(self, option):
                raise ValueError(_no_effect(self, option))
        if self.basis == "fourier" and self.layout != "interleaved":
            raise ValueError(
                f"basis 'fourier' pairs neighbouring waves but layout is {self.layout!r}: "
                f"use 'interleaved'"
            )
        if self.frequencies == "none" and self.basis != "identity":
            raise ValueError(
                f"basis {self.basis!r} needs frequencies to act with, got 'none': without "
                f"rotation a basis only renames the projections"
            )


# Which families of which part read an option; options that are not here concern every encoding.
_READERS: dict[str, dict[str, tuple[str, ...]]] = {
    "theta": {
        "frequencies": ("raster", "axial", "mixed", "video", "circulant"),
        "embedding": ("sincos",),
    },
    "axes_dim": {"frequencies": ("axial",)},
    "learned_frequencies": {"frequencies": ("axial",)},
    "row_sizes": {"frequencies": ("raster",)},
    "per_head": {"basis": ("diagonal", "orthogonal", "svd", "free")},
    "pairing": {"basis": ("diagonal", "svd", "free")},
    "orthogonal_map": {"basis": ("orthogonal", "svd")},
    "layout": {"frequencies": ("raster", "axial", "mixed", "video", "circulant")},
    "grid_sizes": {"embedding": ("learned",)},
}

_SIZES = ("axes_dim", "row_sizes", "grid_sizes")
_SWITCHES = ("learned_frequencies", "per_head")

BASIS_OPTIONS = tuple(option for option, parts in _READERS.items() if "basis" in parts)
"""Options that a learned basis reads, and nothing else does."""

# Those whose default is None or False, so that any other value is one that somebody gave.
_OFF_BY_DEFAULT = ("axes_dim", "learned_frequencies", "row_sizes", "grid_sizes")

_CHOICES: dict[str, Any] = {
    "frequencies": FrequencyName,
    "basis": BasisName,
    "embedding": EmbeddingName,
    "pairing": Pairing,
    "orthogonal_map": OrthogonalMap,
    "layout": Layout,
}


def has_effect(config: EncodingConfig, option: str) -> bool:
    """Whether any part of the encoding reads this field of its configuration."""
    readers = _READERS.get(option)
    return readers is None or any(getattr(config, part) in names for part, names in readers.items())


def _no_effect(config: EncodingConfig, option: str) -> str:
    parts = _READERS[option]
    has = " and ".join(f"{part} {getattr(config, part)!r}" for part in parts)
    reads = " or ".join(f"{part} {', '.join(names)}" for part, names in parts.items())
    return (
        f"{option} has no effect with {has}: leave it out; it is only read with {reads}, "
        f"got {getattr(config, option)!r}"
    )


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named encoding of the field."""

    config: EncodingConfig
    """What it is made of."""
    equation: str
    """What it computes, with R(p) the rotation by the angles of position p."""
    source: str
    """Where it was published, with its arXiv identifier."""


PRESETS: dict[str, Preset] = {
    "none": Preset(
        config=EncodingConfig(),
        equation="q' = q, k' = k",
        source="no positions: tokens are a set",
    ),
    "ape": Preset(
        config=EncodingConfig(embedding="sincos"),
        equation="x' = x + sincos(p), once",
        source="Vaswani et al. 1706.03762, in 2-D as in MAE 2111.06377",
    ),
    "ape-learned": Preset(
        config=EncodingConfig(embedding="learned"),
        equation="x' = x + E[p], once",
        source="ViT 2010.11929",
    ),
    "rope": Preset(
        config=EncodingConfig(frequencies="raster"),
        equation="q' = R(m) q, k' = R(m) k, m the row-major index",
        source="RoFormer 2104.09864",
    ),
    "axial": Preset(
        config=EncodingConfig(frequencies="axial"),
        equation="q' = R(y, x) q, k' = R(y, x) k, each axis in channels of its own",
        source="RoFormer 2104.09864, per axis",
    ),
    "axial-learned": Preset(
        config=EncodingConfig(frequencies="axial", learned_frequencies=True),
        equation="as axial, frequencies learned per head",
        source="the control of HARoPE's Table 9; AdaRoPE",
    ),
    "mixed": Preset(
        config=EncodingConfig(frequencies="mixed", theta=10.0),
        equation="as axial, angles f_y y + f_x x learned per pair and head",
        source="RoPE-Mixed, Heo et al. 2403.13298",
    ),
    "video": Preset(
        config=EncodingConfig(frequencies="video"),
        equation="as axial, one spectrum: h and w alternate above, t below",
        source="VideoRoPE 2502.05173",
    ),
    "rethinking": Preset(
        config=EncodingConfig(frequencies="axial", basis="orthogonal", per_head=False),
        equation="q' = R Q q, k' = R Q k, Q orthogonal, one for all heads",
        source="Liu & Zhou 2504.06308",
    ),
    "string": Preset(
        config=EncodingConfig(
            frequencies="axial",
            basis="orthogonal",
            orthogonal_map="cayley",
            learned_frequencies=True,
        ),
        equation="q' = R Q q, k' = R Q k, Q orthogonal per head, frequencies learned",
        source="STRING 2502.02562",
    ),
    "string-circulant": Preset(
        config=EncodingConfig(frequencies="circulant", basis="fourier", per_head=False),
        equation="q' = exp(sum_a p_a (C_a - C_a^T)) q, k' likewise, C_a circulant",
        source="STRING 2502.02562",
    ),
    "harope": Preset(
        config=EncodingConfig(frequencies="axial", basis="svd"),
        equation="q' = R A^T q, k' = R A^-1 k, score q^T A R A^-1 k, A per head",
        source="HARoPE 2510.10489 as published at CVPR 2026, and its released weights",
    ),
    "harope-v1": Preset(
        config=EncodingConfig(frequencies="axial", basis="svd", pairing="same"),
        equation="q' = R A q, k' = R A k, score q^T A^T R A k, A per head",
        source="HARoPE 2510.10489v1, equation 7",
    ),
}


def list_encodings() -> list[str]:
    """Names that `create_encoding` takes."""
    return list(PRESETS)


def encoding_config(name: str, **options: Any) -> EncodingConfig:
    """The preset with some of its parts replaced.

    Raises ValueError for an unknown name or option, with the nearest known one, and for an option
    that has no effect on this encoding.
    """
    if name not in PRESETS:
        raise ValueError(f"encoding {name!r} is unknown{_nearest(name, PRESETS)}")
    known = [field.name for field in fields(EncodingConfig)]
    for option in options:
        if option not in known:
            raise ValueError(f"encoding option {option!r} is unknown{_nearest(option, known)}")
    given: dict[str, Any] = {option: _typed(option, value) for option, value in options.items()}
    config = replace(PRESETS[name].config, **given)
    for option in options:
        if not has_effect(config, option):
            raise ValueError(f"encoding {name!r}: {_no_effect(config, option)}")
    return config


def options_to_store(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options as files keep them: with the pairing spelled out, since its default has changed.

    Args:
        name: one of `list_encodings()`.
        options: what replaces parts of its preset.
    """
    config = encoding_config(name, **options)
    return {**options, "pairing": config.pairing} if has_effect(config, "pairing") else options


def options_from_file(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options read from a file, whichever version wrote it.

    Files without a pairing were written when "same" was the default and mean that; options without
    effect, which were once accepted, are dropped.
    """
    if name not in PRESETS:
        return options
    known = {field.name for field in fields(EncodingConfig)}
    given: dict[str, Any] = {k: _typed(k, v) for k, v in options.items() if k in known}
    config = replace(PRESETS[name].config, **given)
    kept = {k: v for k, v in options.items() if k not in known or has_effect(config, k)}
    if has_effect(config, "pairing"):
        pairing = kept.pop("pairing", "same")
        if pairing != PRESETS[name].config.pairing:
            kept["pairing"] = pairing
    return kept


def create_encoding(
    name: str, *, num_heads: int, head_dim: int, num_axes: int = 2, **options: Any
) -> PositionalEncoding:
    """An encoding by name; `options` replace parts of its preset (see EncodingConfig).

    Args:
        name: one of `list_encodings()`.
        num_heads: attention heads of the layer.
        head_dim: channels per head, even.
        num_axes: numbers per position: 1 for sequences, 2 for images (y, x), 3 for video.

    Raises ValueError for an unknown name or option, for one without effect on this encoding, and
    for sizes that do not go together.
    """
    if min(num_heads, num_axes) < 1:
        raise ValueError(f"num_heads {num_heads} and num_axes {num_axes} must be positive")
    config = encoding_config(name, **options)
    if config.frequencies != "none":
        return RotaryEncoding(
            _FREQUENCIES[config.frequencies](config, num_heads, head_dim, num_axes),
            _BASES[config.basis](config, num_heads if config.per_head else 1, head_dim),
            num_heads=num_heads,
            head_dim=head_dim,
            num_axes=num_axes,
            layout=config.layout,
        )
    if config.embedding == "none":
        return NoEncoding(num_heads=num_heads, head_dim=head_dim, num_axes=num_axes)
    embedding = _embedding(config, num_heads * head_dim, num_axes)
    return Absolute(embedding, num_heads=num_heads, head_dim=head_dim)


def encoding_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of all encodings inside `module`: they take no weight decay.

    Decay would pull raw scales to 0 and so the singular values to softplus(0) = 0.69.
    """
    encodings = [part for part in module.modules() if isinstance(part, PositionalEncoding)]
    unique = {id(p): p for encoding in encodings for p in encoding.parameters()}
    return list(unique.values())


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: decayed, and not (encodings, biases, norms)."""
    exempt = {id(parameter) for parameter in encoding_parameters(module)}
    trained = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1 and id(p) not in exempt]
    kept = [p for p in trained if p.ndim <= 1 or id(p) in exempt]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]


def _nearest(name: str, known: Any) -> str:
    match = get_close_matches(name, list(known), n=1)
    return f": did you mean {match[0]!r}?" if match else f": use one of {', '.join(known)}"


def _typed(option: str, value: Any) -> Any:
    """The value as its field has it: JSON has lists for tuples, and whole numbers for floats.

    Raises ValueError for a value of another type.
    """
    if option in _SIZES and value is not None:
        whole = isinstance(value, list | tuple) and all(type(size) is int for size in value)
        if not whole:
            raise ValueError(f"{option} {value!r} must be a list of whole numbers, one per axis")
        return tuple(value)
    if option in _SWITCHES and not isinstance(value, bool):
        raise ValueError(f"{option} {value!r} must be true or false")
    if option == "theta":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"theta {value!r} must be a number: 10000 is usual")
        return float(value)
    return value


def _embedding(config: EncodingConfig, width: int, num_axes: int) -> AbsoluteEmbedding:
    if config.embedding == "sincos":
        return SinCos(width, num_axes, theta=config.theta)
    if config.grid_sizes is None or len(config.grid_sizes) != num_axes:
        raise ValueError(
            f"a learned embedding needs grid_sizes for {num_axes} axes, got {config.grid_sizes}: "
            f"pass the tokens per axis in training"
        )
    return Learned(width, config.grid_sizes)


_FREQUENCIES: dict[str, Callable[[EncodingConfig, int, int, int], Frequencies | None]] = {
    "host": lambda c, heads, dim, axes: None,
    "raster": lambda c, heads, dim, axes: Raster(dim, axes, theta=c.theta, row_sizes=c.row_sizes),
    "axial": lambda c, heads, dim, axes: Axial(
        dim,
        axes,
        theta=c.theta,
        axes_dim=c.axes_dim,
        num_heads=heads,
        learned=c.learned_frequencies,
    ),
    "mixed": lambda c, heads, dim, axes: Mixed(dim, axes, num_heads=heads, theta=c.theta),
    "video": lambda c, heads, dim, axes: Video(dim, axes, theta=c.theta),
    "circulant": lambda c, heads, dim, axes: Circulant(dim, axes, num_heads=heads, theta=c.theta),
}

_BASES: dict[str, Callable[[EncodingConfig, int, int], Basis]] = {
    "identity": lambda c, matrices, dim: Identity(),
    "diagonal": lambda c, matrices, dim: Diagonal(matrices, dim, pairing=c.pairing),
    "orthogonal": lambda c, matrices, dim: Orthogonal(
        matrices, dim, orthogonal_map=c.orthogonal_map
    ),
    "svd": lambda c, matrices, dim: SVD(
        matrices, dim, pairing=c.pairing, orthogonal_map=c.orthogonal_map
    ),
    "free": lambda c, matrices, dim: Free(matrices, dim, pairing=c.pairing),
    "fourier": lambda c, matrices, dim: Fourier(dim),
}
