"""Configuration of a DiT, and the sizes of the DiT paper by name."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from harope._utils.argument_checks import check_fields
from harope._utils.field_checks import AT_LEAST_ONE, check_range
from harope._utils.json_files import shorten
from harope._utils.rng import isolated_torch_rng
from harope._utils.suggestions import suggest
from harope.rope import EncodingConfig, PositionalEncoding, create_encoding, encoding_config
from harope.rope.config import has_effect
from harope.rope.presets import options_from_file, options_to_store


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Convert lists, which JSON makes of tuples, back to tuples."""
    return {key: tuple(part) if isinstance(part, list) else part for key, part in values.items()}


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Architecture of a diffusion transformer (DiT; Peebles & Xie 2023, arXiv 2212.09748)."""

    depth: int
    """Number of blocks."""
    width: int
    """Channels of the tokens."""
    num_heads: int
    """Number of attention heads, of width / num_heads channels each."""
    patch_size: int
    """Side of a patch in pixels or latents."""
    in_channels: int = 4
    """Channels of the input: 4 for Stable Diffusion latents, 3 for RGB images."""
    num_classes: int | None = 1000
    """Number of classes to condition on; 0 for an unconditional model. None: that of the training
    data, set by the training."""
    label_dropout: float = 0.1
    """Probability that a training label is replaced by the null class, for classifier-free
    guidance; with 0 the model has no null class."""
    learned_variance: bool = True
    """Whether the output has twice the input channels, the second half for the variance."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLPs divided by the width."""
    qk_norm: bool = False
    """Whether each head's queries and keys pass an RMS norm before the encoding, as in FLUX and
    SD3.5. The basis of an encoding then adds expressiveness, and cannot be folded into the
    projections."""
    input_size: tuple[int, int] | None = None
    """Height and width of the training data; set by the training. Other sizes can be run."""
    encoding: str = "harope"
    """Positional encoding, one of `harope.list_encodings()`."""
    encoding_options: dict[str, Any] = field(default_factory=dict)
    """Options of the encoding that replace those of its preset, see `EncodingConfig`."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_range(self, AT_LEAST_ONE, "depth", "width", "num_heads", "patch_size", "in_channels")
        if self.width % self.num_heads:
            raise ValueError(
                f"width {self.width} is not a multiple of num_heads {self.num_heads}: "
                f"choose a width that the heads divide"
            )
        if self.mlp_ratio <= 0 or (self.input_size is not None and min(self.input_size) < 1):
            raise ValueError(
                f"mlp_ratio {self.mlp_ratio} and input_size {self.input_size} must be positive"
            )
        if (self.num_classes or 0) < 0 or not 0 <= self.label_dropout < 1:
            raise ValueError(
                f"num_classes {self.num_classes} must be 0 or more, and label_dropout "
                f"{self.label_dropout} must lie in [0, 1)"
            )
        object.__setattr__(self, "encoding_options", _tuples(self.encoding_options))
        if self.encoding_parts.frequencies == "host":
            raise ValueError(
                "frequencies 'host' uses the surrounding model's rotation, but a DiT has none: use "
                "frequencies 'axial'"
            )
        if self._lacks_grid:
            # The training sets input_size later.
            return
        # Check that the encoding can be created, without changing the random state.
        with isolated_torch_rng():
            self.create_encoding()

    @property
    def head_dim(self) -> int:
        """Number of channels per head."""
        return self.width // self.num_heads

    @property
    def out_channels(self) -> int:
        """Number of channels of the output."""
        return self.in_channels * (2 if self.learned_variance else 1)

    @property
    def null_class(self) -> int | None:
        """Label of the unconditional model in classifier-free guidance; None if there is none, or
        `num_classes` is not set yet."""
        return self.num_classes if self.num_classes and self.label_dropout else None

    @property
    def encoding_parts(self) -> EncodingConfig:
        """The encoding's preset with `encoding_options` applied."""
        return encoding_config(self.encoding, **self.encoding_options)

    @property
    def _lacks_grid(self) -> bool:
        """Whether the encoding is a learned embedding whose grid size is not yet known."""
        learned = self.encoding_parts.embedding == "learned"
        return learned and self.input_size is None and "grid_sizes" not in self.encoding_options

    def create_encoding(self) -> PositionalEncoding:
        """Create the encoding of one layer.

        A learned embedding spans the token grid of `input_size`, unless `encoding_options` has
        `grid_sizes`.

        Raises:
            ValueError: If a learned embedding has neither.
        """
        options = self.encoding_options
        if self._lacks_grid:
            raise ValueError(
                f"encoding {self.encoding!r} learns one vector per grid point, but input_size is "
                f"None: pass input_size=(height, width)"
            )
        if self.input_size is not None and self.encoding_parts.embedding == "learned":
            grid = tuple(side // self.patch_size for side in self.input_size)
            options = {"grid_sizes": grid} | options
        if has_effect(self.encoding_parts, "condition_dim"):
            options = {"condition_dim": self.width} | options
        return create_encoding(
            self.encoding,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            num_axes=2,
            **options,
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {
            **asdict(self),
            "encoding_options": options_to_store(self.encoding, self.encoding_options),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DiTConfig":
        """Create a configuration from the result of `to_dict`, or from an older file.

        Args:
            values: Fields by name, tuples as lists; fields with a default may be missing.

        Raises:
            ValueError: If fields are missing or unknown, or their values are invalid.
        """
        if not isinstance(values, dict):
            raise ValueError(f"not the configuration of a DiT: {shorten(values)}")
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        missing = sorted({"depth", "width", "num_heads", "patch_size"} - set(values))
        if unknown or missing:
            raise ValueError(
                f"not the configuration of a DiT: unknown fields {unknown}, missing {missing}"
            )
        name, options = values.get("encoding", cls.encoding), values.get("encoding_options", {})
        stored = {"encoding_options": options_from_file(name, options)}
        return cls(**_tuples(values | stored))


_SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}

DIT_SIZES: dict[str, DiTConfig] = {
    f"DiT-{size}/{patch}": DiTConfig(depth=depth, width=width, num_heads=heads, patch_size=patch)
    for size, (depth, width, heads) in _SIZES.items()
    for patch in (2, 4, 8)
}
"""Configurations of the DiT paper by name, such as "DiT-B/2" (arXiv 2212.09748, table 1)."""


def dit_config(size: str | DiTConfig, **options: Any) -> DiTConfig:
    """Look up a configuration by name and replace some of its fields.

    Args:
        size: Name such as "DiT-B/2" (see `DIT_SIZES`), or a configuration.
        options: Fields of `DiTConfig` to replace.

    Returns:
        The configuration.

    Raises:
        ValueError: If a name or field is unknown; the message suggests the nearest known one.
    """
    if not isinstance(size, DiTConfig):
        if not isinstance(size, str):
            raise ValueError(f"size must be a name or a DiTConfig, got {shorten(size)}")
        if size not in DIT_SIZES:
            raise ValueError(f"DiT size {size!r} is unknown: {suggest(size, DIT_SIZES)}")
        size = DIT_SIZES[size]
    known = [item.name for item in fields(DiTConfig)]
    for option in options:
        if option not in known:
            raise ValueError(f"DiT option {option!r} is unknown: {suggest(option, known)}")
    return replace(size, **options)


def standard_num_heads(depth: int, width: int) -> int | None:
    """Return the number of heads of the paper's model of this size; None if there is none.

    Args:
        depth: Number of blocks.
        width: Channels of the tokens.
    """
    return next((h for d, w, h in _SIZES.values() if (d, w) == (depth, width)), None)
