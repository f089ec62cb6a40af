"""One spectrum of which every pair, or every head, belongs to one axis.

The axes are (t, h, w). With the two axes (h, w) of an image, what belongs to t is not rotated.
"""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harope.rope.config import EncodingConfig
from harope.rope.frequencies import FixedFrequencies, Frequencies, check_head_dim, spectrum

Pairs = Int[Tensor, " pairs"]


class SectionedFrequencies(FixedFrequencies):
    """Frequencies `theta^(-2i/d)` over all pairs, each of which belongs to one axis.

    Args:
        head_dim: Channels per head.
        num_axes: 3 for (t, h, w), or 2 for (h, w).
        theta: Base of the spectrum.
    """

    options = (*Frequencies.options, "theta")

    def __init__(self, head_dim: int, num_axes: int, *, theta: float = 10000.0) -> None:
        super().__init__()
        check_head_dim(head_dim)
        if num_axes not in (2, 3):
            raise ValueError(
                f"{self.name} frequencies need the axes (h, w) or (t, h, w), got num_axes "
                f"{num_axes}: pass 2 or 3, or use axial"
            )
        self.head_dim, self.num_axes, self.theta = head_dim, num_axes, theta

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "SectionedFrequencies":
        return cls(head_dim, num_axes, theta=config.theta)

    @abstractmethod
    def axis_of_pairs(self, pairs: Pairs) -> Pairs:
        """Return the axis of every pair: 0 for t, 1 for h, 2 for w.

        Args:
            pairs: Numbers of the pairs.
        """

    def wave_vectors(self, device: torch.device) -> Float[Tensor, "axes heads pairs"]:
        owner = self.axis_of_pairs(torch.arange(self.head_dim // 2, device=device))
        return torch.stack(
            [
                spectrum(self.head_dim, self.theta, scaling=self.scaling, axis=axis, device=device)
                * (owner == axis + 3 - self.num_axes)
                for axis in range(self.num_axes)
            ]
        )[:, None]


class Video(SectionedFrequencies):
    """VideoRoPE (arXiv 2502.05173): the low quarter of the spectrum for t, above it h, w, h, w."""

    name = "video"

    def axis_of_pairs(self, pairs: Pairs) -> Pairs:
        spatial = len(pairs) - len(pairs) // 4
        return torch.where(pairs < spatial, 1 + pairs % 2, 0)


class MMRoPE(SectionedFrequencies):
    """MM-RoPE (Lumos-1, arXiv 2507.08801): t, t, h, w, h, w, h, w in every 16 channels.

    Whether Lumos-1 has one spectrum over all channels, as here and in a third-party implementation,
    is not certain. Its positions are multiplied by the strides of the video's VAE (`axis_scale`).
    """

    name = "mm-rope"

    def axis_of_pairs(self, pairs: Pairs) -> Pairs:
        return torch.where(pairs % 8 < 2, 0, 1 + pairs % 2)


class MRoPESections(SectionedFrequencies):
    """Frequencies with a number of pairs for each of t, h and w.

    Args:
        head_dim: Channels per head.
        num_axes: 3 for (t, h, w), or 2 for (h, w).
        theta: Base of the spectrum.
        sections: Pairs of t, h and w, which sum to head_dim / 2; None for the shares of the
            published models.
    """

    options = (*Frequencies.options, "theta", "sections")
    shares: tuple[int, int, int]

    def __init__(
        self,
        head_dim: int,
        num_axes: int,
        *,
        theta: float = 10000.0,
        sections: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(head_dim, num_axes, theta=theta)
        pairs = head_dim // 2
        if sections is None:
            height = pairs * self.shares[1] // sum(self.shares)
            sections = (pairs - 2 * height, height, height)
        if len(sections) != 3 or sum(sections) != pairs or min(sections) < 0:
            raise ValueError(
                f"sections {sections} must name the pairs of t, h and w, which sum to "
                f"head_dim / 2 = {pairs}"
            )
        self.sections = sections
        self.check_sections()

    def check_sections(self) -> None:
        """Raise ValueError if the pairs cannot be arranged; any numbers can be by default."""

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "MRoPESections":
        return cls(head_dim, num_axes, theta=config.theta, sections=config.sections)


class MRoPE(MRoPESections):
    """MRoPE of Qwen2-VL (arXiv 2409.12191): t has the high frequencies, then h, then w."""

    name = "mrope"
    shares = (16, 24, 24)

    def axis_of_pairs(self, pairs: Pairs) -> Pairs:
        time, height, _ = self.sections
        return (pairs >= time).long() + (pairs >= time + height).long()


class MRoPEInterleaved(MRoPESections):
    """MRoPE-I of Qwen3-VL (arXiv 2510.23095): t, h, w, t, h, w, ..., and t where h and w end."""

    name = "mrope-interleaved"
    shares = (24, 20, 20)

    def check_sections(self) -> None:
        _, height, width = self.sections
        # The last pairs of h and w.
        if max(3 * height - 2, 3 * width - 1) >= self.head_dim // 2:
            raise ValueError(
                f"sections {self.sections} cannot take turns over {self.head_dim // 2} pairs: give "
                f"more pairs to t"
            )

    def axis_of_pairs(self, pairs: Pairs) -> Pairs:
        _, height, width = self.sections
        turn, axis = pairs // 3, pairs % 3
        owned = ((axis == 1) & (turn < height)) | ((axis == 2) & (turn < width))
        return torch.where(owned, axis, 0)


class HeadAxes(FixedFrequencies):
    """MHRoPE (arXiv 2510.23095): every head belongs to one axis and has the whole spectrum on it.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position.
        num_heads: Heads.
        theta: Base of the spectrum.
        sections: Heads per axis; further heads are not rotated. None shares the heads equally, the
            last axes first: 2, 3 and 3 of 8.
    """

    name = "head-axes"
    options = (*Frequencies.options, "theta", "sections")

    def __init__(
        self,
        head_dim: int,
        num_axes: int,
        *,
        num_heads: int = 1,
        theta: float = 10000.0,
        sections: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        check_head_dim(head_dim)
        if sections is None:
            each, more = divmod(num_heads, num_axes)
            sections = tuple(each + (axis >= num_axes - more) for axis in range(num_axes))
        if len(sections) != num_axes or min(sections) < 0 or sum(sections) > num_heads:
            raise ValueError(
                f"sections {sections} must name the heads of {num_axes} axes, at most {num_heads} "
                f"in total"
            )
        self.head_dim, self.num_axes, self.num_heads = head_dim, num_axes, num_heads
        self.theta, self.sections = theta, sections

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "HeadAxes":
        return cls(
            head_dim, num_axes, num_heads=num_heads, theta=config.theta, sections=config.sections
        )

    def wave_vectors(self, device: torch.device) -> Float[Tensor, "axes heads pairs"]:
        heads = torch.arange(self.num_heads, device=device)[:, None]
        vectors, start = [], 0
        for axis, count in enumerate(self.sections):
            owned: Bool[Tensor, "heads 1"] = (heads >= start) & (heads < start + count)
            values = spectrum(
                self.head_dim, self.theta, scaling=self.scaling, axis=axis, device=device
            )
            vectors.append(owned * values)
            start += count
        return torch.stack(vectors)
