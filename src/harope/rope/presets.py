"""The encodings of the field by name: presets over positions x frequencies x basis."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast, get_args, get_type_hints

from torch import nn

from harope._utils.argument_checks import check_integer, check_module, check_real
from harope._utils.json_files import shorten
from harope._utils.suggestions import suggest
from harope.rope.absolute import AbsoluteEmbedding
from harope.rope.basis import Basis
from harope.rope.circulant import Circulant as Circulant  # makes its classes selectable
from harope.rope.comrope import ComRoPEAxes as ComRoPEAxes
from harope.rope.config import (
    EncodingConfig,
    components,
    effective_options,
    has_effect,
    no_effect_message,
)
from harope.rope.directions import Golden as Golden
from harope.rope.encoding import Absolute, NoEncoding, PositionalEncoding, RotaryEncoding
from harope.rope.frequencies import Frequencies
from harope.rope.liere import LieRE as LieRE
from harope.rope.partial import PartialFrequencies, rotated_channels
from harope.rope.position_maps import PositionMap
from harope.rope.sectioned import Video as Video

BASIS_OPTIONS = tuple(
    field.name
    for field in fields(EncodingConfig)
    if any(field.name in basis.options for basis in components("basis").values())
)
"""Fields of EncodingConfig that only bases use."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named encoding of the field."""

    config: EncodingConfig
    """Its parts."""
    equation: str
    """What it computes, with R(p) the rotation by the angles of position p."""
    source: str
    """Where it was published, with its arXiv identifier."""
    code: str = ""
    """Published code and its licence; none of it is used here."""
    uncertain: str = ""
    """What the publication leaves open, as far as it was available."""

    @property
    def group(self) -> str:
        """What the encoding is made of: the heading that lists have it under."""
        config = self.config
        if config.frequencies == "none":
            return "Without rotation"
        if config.frequencies == "liere":
            return "Rotations that do not commute"
        if config.basis in ("svd", "free", "diagonal"):
            return "Frequencies and a basis that is not orthogonal"
        if config.basis != "identity":
            return "Frequencies and an orthogonal basis"
        learned = config.learned_frequencies or config.frequencies == "mixed"
        return "Learned frequencies" if learned else "Fixed frequencies"


GROUPS = (
    "Without rotation",
    "Fixed frequencies",
    "Learned frequencies",
    "Frequencies and an orthogonal basis",
    "Frequencies and a basis that is not orthogonal",
    "Rotations that do not commute",
)
"""Groups of presets, from what is simplest."""


PRESETS: dict[str, Preset] = {
    "none": Preset(
        config=EncodingConfig(),
        equation="q' = q, k' = k",
        source="no positions: attention treats the tokens as a set",
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
        code="Outsider565/AdaRoPE",
        uncertain="AdaRoPE also scales scores by length; the formula was not available",
    ),
    "mixed": Preset(
        config=EncodingConfig(frequencies="mixed", theta=10.0),
        equation="as axial, angles f_y y + f_x x learned per pair and head",
        source="RoPE-Mixed, Heo et al. 2403.13298",
        code="naver-ai/rope-vit, Llama licence for its rotary files",
    ),
    "mixed-orthogonal": Preset(
        config=EncodingConfig(frequencies="mixed", basis="orthogonal", theta=10.0),
        equation="q' = R Q q, k' = R Q k, angles as mixed, Q orthogonal per head",
        source="all relative encodings by orthogonal matrices: docs/theory.md",
    ),
    "partial": Preset(
        config=EncodingConfig(frequencies="axial", rotary_fraction=0.5),
        equation="as axial on the first half of the channels, the others are not rotated",
        source="GPT-NeoX 2204.06745",
    ),
    "dinov3": Preset(
        config=EncodingConfig(
            positions="centered",
            frequencies="axial",
            theta=100.0,
            frequency_scale=math.tau,
            layout="half",
        ),
        equation="as axial, coordinates from -1 to 1 over the image",
        source="DINOv3 2508.10104",
        code="facebookresearch/dinov3, its own licence; timm, Apache-2.0",
    ),
    "golden": Preset(
        config=EncodingConfig(positions="centered", frequencies="golden", layout="half"),
        equation="as mixed, directions fixed: a low-discrepancy sequence over pairs and heads",
        source="golden gate RoPE, J. Xiong 2025, jerryxio.ng/posts/nd-rope",
        code="lucidrains/vit-pytorch, MIT",
        uncertain="the bounds of the frequencies; implementations differ",
    ),
    "spiral": Preset(
        config=EncodingConfig(frequencies="spiral"),
        equation="as mixed, K directions over half a turn, fixed",
        source="Spiral RoPE 2602.03227",
        uncertain="K, theta, the factor on the spectrum, and which axis has the cosine",
    ),
    "simplex": Preset(
        config=EncodingConfig(frequencies="simplex", theta=100.0),
        equation="as mixed, at every scale the directions of a simplex, turned per head, fixed",
        source="nD-RoPE 2606.12146",
        code="BoyangL1/nD-RoPE, licence not known",
        uncertain="whether rotations belong to heads, scales or layers, and theta",
    ),
    "comrope-ap": Preset(
        config=EncodingConfig(positions="unit", frequencies="comrope-ap", basis="block-orthogonal"),
        equation="q' = exp(p_a S_j) q in block j, S_j learned, a = j mod n; k' likewise",
        source="ComRoPE 2506.03737, axis partition",
        code="Longin-Yu/ComRoPE, no licence",
        uncertain="the block size of the experiments",
    ),
    "comrope-ld": Preset(
        config=EncodingConfig(positions="unit", frequencies="comrope-ld", basis="block-orthogonal"),
        equation="q' = exp((th_j . p) S_j) q in block j, S_j and th_j learned; k' likewise",
        source="ComRoPE 2506.03737, linearly dependent",
        code="Longin-Yu/ComRoPE, no licence",
        uncertain="the block size of the experiments",
    ),
    "liere": Preset(
        config=EncodingConfig(positions="unit", frequencies="liere", block_size=8),
        equation="q' = exp(sum_a p_a S_a) q in blocks, S_a learned; k' likewise; not relative",
        source="LieRE 2406.10322",
        code="StanfordMIMI/LieRE",
    ),
    "mrope": Preset(
        config=EncodingConfig(frequencies="mrope", layout="half"),
        equation="as axial, one spectrum: t above, then h, then w",
        source="Qwen2-VL 2409.12191",
        code="transformers, Apache-2.0",
    ),
    "mrope-interleaved": Preset(
        config=EncodingConfig(frequencies="mrope-interleaved", layout="half"),
        equation="as axial, one spectrum: t, h and w take turns",
        source="Qwen3-VL; 2510.23095",
        code="transformers, Apache-2.0",
    ),
    "mm-rope": Preset(
        config=EncodingConfig(frequencies="mm-rope"),
        equation="as axial, one spectrum: t t h w h w h w in every 16 channels",
        source="Lumos-1 2507.08801",
        uncertain="whether one spectrum covers all channels, and the scale of positions",
    ),
    "mhrope": Preset(
        config=EncodingConfig(frequencies="head-axes", layout="half"),
        equation="as axial, one axis per head",
        source="MHRoPE 2510.23095",
        code="JJJYmmm/Multimodal-RoPEs",
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
        config=EncodingConfig(frequencies="circulant", basis="fourier"),
        equation="q' = exp(sum_a p_a (C_a - C_a^T)) q, k' likewise, C_a circulant",
        source="STRING 2502.02562",
    ),
    "harope": Preset(
        config=EncodingConfig(frequencies="axial", basis="svd"),
        equation="q' = R A^T q, k' = R A^-1 k, score q^T A R A^-1 k, A per head",
        source="HARoPE 2510.10489 as published at CVPR 2026, and its released weights",
        code="Studentxll/HARoPE, not for commercial use",
    ),
    "harope-v1": Preset(
        config=EncodingConfig(frequencies="axial", basis="svd", pairing="same"),
        equation="q' = R A q, k' = R A k, score q^T A^T R A k, A per head",
        source="HARoPE 2510.10489v1, equation 7",
        code="Studentxll/HARoPE, not for commercial use",
    ),
}


def list_encodings() -> list[str]:
    """Return the names that `create_encoding` accepts."""
    return list(PRESETS)


def encoding_config(encoding: str | EncodingConfig, **options: Any) -> EncodingConfig:
    """Return the configuration of an encoding, with some of its fields replaced.

    Fields of the preset that have no effect any more get their defaults.

    Args:
        encoding: One of `list_encodings()`, or a configuration.
        options: Fields of `EncodingConfig` to replace; numbers and lists as in JSON are accepted.

    Raises:
        ValueError: For an unknown name or option, with the nearest known one, for a value of
            another type, and for an option that has no effect on this encoding.
    """
    base = _base_config(encoding)
    known = [field.name for field in fields(EncodingConfig)]
    for option in options:
        if option not in known:
            raise ValueError(f"encoding option {option!r} is unknown: {suggest(option, known)}")
    given = {option: _typed(option, value) for option, value in options.items()}
    config = _replace(base, given)
    for option in given:
        if not has_effect(config, option):
            # A default value, which the configuration itself cannot tell from an omitted one.
            message = no_effect_message(config, option)
            raise ValueError(f"encoding {_display_name(encoding)}: {message}")
    return config


def options_to_store(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return options as they are written to files.

    The pairing is always written, because its default has changed.

    Args:
        name: One of `list_encodings()`.
        options: Fields that replace parts of its preset.
    """
    config = encoding_config(name, **options)
    return {**options, "pairing": config.pairing} if has_effect(config, "pairing") else options


def options_from_file(name: Any, options: Any) -> dict[str, Any]:
    """Return options read from a file, whichever version wrote it.

    Files without a pairing were written when "same" was the default, and mean that. Options without
    effect, which older versions accepted, are dropped.

    Args:
        name: The encoding; options of unknown ones are returned unchanged.
        options: As stored.

    Raises:
        ValueError: If the name is not text, the options are not a dictionary, or an option has a
            value of another type.
    """
    if not isinstance(name, str) or not isinstance(options, dict):
        raise ValueError(
            f"encoding must be a name and encoding_options a dictionary, got {shorten(name)} and "
            f"{shorten(options)}"
        )
    if name not in PRESETS:
        return options
    known = {field.name for field in fields(EncodingConfig)}
    given = {k: _typed(k, v) for k, v in options.items() if k in known}
    possible = effective_options({**vars(PRESETS[name].config), **given})
    effective = {k: v for k, v in given.items() if k in possible}
    config = _replace(PRESETS[name].config, effective)
    stored = {k: v for k, v in options.items() if k not in known or k in effective}
    if has_effect(config, "pairing"):
        pairing = stored.pop("pairing", "same")
        if pairing != PRESETS[name].config.pairing:
            stored["pairing"] = pairing
    return stored


def create_encoding(
    encoding: str | EncodingConfig,
    *,
    num_heads: int,
    head_dim: int,
    num_axes: int = 2,
    **options: Any,
) -> PositionalEncoding:
    """Create the encoding of one layer.

    Args:
        encoding: One of `list_encodings()`, or a configuration.
        num_heads: Attention heads of the layer.
        head_dim: Channels per head, even.
        num_axes: Numbers per position: 1 for sequences, 2 for images (y, x), 3 for video (t, h, w).
        options: Fields of `EncodingConfig` that replace those of `encoding`.

    Raises:
        ValueError: For an unknown name or option, for an option without effect on this encoding,
            and for sizes that contradict each other.
    """
    for name, size in (("num_heads", num_heads), ("head_dim", head_dim), ("num_axes", num_axes)):
        check_integer(name, size)
    if min(num_heads, num_axes) < 1:
        raise ValueError(f"num_heads {num_heads} and num_axes {num_axes} must be positive")
    config = encoding_config(encoding, **options)
    shape = {"num_heads": num_heads, "head_dim": head_dim, "num_axes": num_axes}
    # "none" and "host" are no classes: nothing is added or rotated by the encoding itself.
    if config.frequencies != "none":
        positions = components("positions")[config.positions].from_config(config, **shape)
        basis = components("basis")[config.basis].from_config(config, **shape)
        return RotaryEncoding(
            _create_frequencies(config, **shape),
            cast(Basis, basis),
            positions=cast(PositionMap, positions),
            layout=config.layout,
            **shape,
        )
    if config.embedding != "none":
        embedding = components("embedding")[config.embedding].from_config(config, **shape)
        return Absolute(cast(AbsoluteEmbedding, embedding), num_heads=num_heads, head_dim=head_dim)
    return NoEncoding(**shape)


def _create_frequencies(
    config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
) -> Frequencies | None:
    family = components("frequencies").get(config.frequencies)
    if family is None:
        return None
    channels, fraction = head_dim, config.rotary_fraction
    if fraction < 1 and config.rotary_spectrum == "own":
        channels = rotated_channels(head_dim, fraction)
    frequencies = family.from_config(
        config, num_heads=num_heads, head_dim=channels, num_axes=num_axes
    )
    frequencies = cast(Frequencies, frequencies)
    if fraction == 1:
        return frequencies
    return PartialFrequencies(
        frequencies, head_dim, fraction=fraction, spectrum=config.rotary_spectrum
    )


def encoding_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all encodings inside `module`, which take no weight decay.

    Decay would pull raw scales to 0 and so the singular values to softplus(0) = 0.69.

    Args:
        module: A model, a layer or a single encoding.
    """
    check_module("module", module)
    encodings = [part for part in module.modules() if isinstance(part, PositionalEncoding)]
    unique = {id(p): p for encoding in encodings for p in encoding.parameters()}
    return list(unique.values())


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups for an optimizer, with and without weight decay.

    Args:
        module: The model.
        weight_decay: Decay of the first group; the second (encodings, biases, norms) has none.

    Raises:
        ValueError: If the weight decay is negative or not finite.
    """
    check_real("weight_decay", weight_decay, 0)
    exempt = {id(parameter) for parameter in encoding_parameters(module)}
    trained = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1 and id(p) not in exempt]
    undecayed = [p for p in trained if p.ndim <= 1 or id(p) in exempt]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]


def _base_config(encoding: str | EncodingConfig) -> EncodingConfig:
    if isinstance(encoding, EncodingConfig):
        return encoding
    if not isinstance(encoding, str):
        raise ValueError(f"encoding must be a name or an EncodingConfig, got {shorten(encoding)}")
    if encoding not in PRESETS:
        raise ValueError(f"encoding {encoding!r} is unknown: {suggest(encoding, PRESETS)}")
    return PRESETS[encoding].config


def _display_name(encoding: str | EncodingConfig) -> str:
    return repr(encoding) if isinstance(encoding, str) else "config"


def _replace(base: EncodingConfig, given: Mapping[str, Any]) -> EncodingConfig:
    """Replace fields, and reset those that were not given and have no effect any more."""
    effective = effective_options({**vars(base), **given})
    reset = {
        field.name: field.default
        for field in fields(EncodingConfig)
        if field.name not in given and field.name not in effective
    }
    return replace(base, **{**given, **reset})


def _typed(option: str, value: Any) -> Any:
    """Return a value as its field expects it: JSON has lists for tuples and integers for floats.

    Raises:
        ValueError: For a value of another type.
    """
    expected = get_type_hints(EncodingConfig)[option]
    kinds = get_args(expected) or (expected,)
    if tuple[int, ...] in kinds and value is not None:
        if not isinstance(value, list | tuple) or not all(type(size) is int for size in value):
            raise ValueError(f"{option} {value!r} must be a list of whole numbers")
        return tuple(value)
    if tuple[float, ...] in kinds and value is not None:
        if not isinstance(value, list | tuple) or not all(map(_is_number, value)):
            raise ValueError(f"{option} {value!r} must be a list of numbers, one per axis")
        return tuple(map(float, value))
    if bool in kinds and not isinstance(value, bool):
        raise ValueError(f"{option} {value!r} must be true or false")
    if float in kinds:
        if not _is_number(value):
            raise ValueError(f"{option} {value!r} must be a number")
        return float(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
