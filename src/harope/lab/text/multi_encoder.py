"""Combinations of several text encoders, as in FLUX and Stable Diffusion 3.

The encoders are read from a checkpoint in diffusers' layout, with the subfolders `tokenizer`,
`text_encoder`, `tokenizer_2`, `text_encoder_2` etc.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from harope.lab.text.encoder import TextEmbeddings, TextEncoder, TextEncoderConfig
from harope.lab.text.pretrained import TransformersTextEncoder, load_text_encoder

CLIP_LENGTH = 77
"""Number of tokens of CLIP's text encoders."""


@dataclass(frozen=True, kw_only=True)
class FluxTextConfig(TextEncoderConfig):
    """Text encoders of a FLUX checkpoint."""

    kind: Literal["flux"] = "flux"
    path: str
    """Folder or hub id of the checkpoint."""
    length: int = 512
    """Number of T5 tokens."""


@dataclass(frozen=True, kw_only=True)
class SD3TextConfig(TextEncoderConfig):
    """Text encoders of a Stable Diffusion 3 checkpoint."""

    kind: Literal["sd3"] = "sd3"
    path: str
    """Folder or hub id of the checkpoint."""
    length: int = 256
    """Number of T5 tokens, which follow CLIP's 77."""
    with_t5: bool = True
    """Whether to load T5; without it, its token embeddings are zeros."""


class FluxTextEncoder(TextEncoder):
    """FLUX's text encoder: T5's token embeddings and CLIP's pooled output.

    Args:
        clip: CLIP text encoder.
        t5: T5 encoder.
    """

    def __init__(self, clip: TextEncoder, t5: TextEncoder):
        self._clip, self._t5 = clip, t5
        self.length, self.channels = t5.length, t5.channels
        self.pooled_channels = clip.pooled_channels

    @property
    def identity(self) -> dict[str, Any]:
        return {"encoder": "flux", "clip": self._clip.identity, "t5": self._t5.identity}

    def truncated(self, captions: Sequence[str]) -> list[str]:
        # CLIP's 77 tokens are a summary, which T5's tokens complete.
        return self._t5.truncated(captions)

    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        states = self._t5.encode(captions)
        return states._replace(pooled=self._clip.encode(captions).pooled)


class SD3TextEncoder(TextEncoder):
    """Stable Diffusion 3's text encoder (Esser et al. 2024, arXiv:2403.03206, section 4).

    The token embeddings of both CLIP models are concatenated along the channels and padded with
    zeros to T5's width; T5's tokens follow them. The pooled projections of both CLIP models are
    concatenated.

    Args:
        clip_l: CLIP ViT-L text encoder.
        clip_g: CLIP ViT-bigG text encoder.
        t5: T5 encoder.

    Raises:
        ValueError: If the CLIP models differ in length or are together wider than T5.
    """

    def __init__(self, clip_l: TextEncoder, clip_g: TextEncoder, t5: TextEncoder):
        clip_channels = clip_l.channels + clip_g.channels
        if clip_channels > t5.channels or clip_l.length != clip_g.length:
            raise ValueError(
                f"the CLIP embeddings of {clip_l.length} x {clip_l.channels} and {clip_g.length} x "
                f"{clip_g.channels} must have equal lengths and together at most T5's "
                f"{t5.channels} channels: use the encoders of one checkpoint"
            )
        self._parts = clip_l, clip_g, t5
        self.length, self.channels = clip_l.length + t5.length, t5.channels
        self.pooled_channels = clip_l.pooled_channels + clip_g.pooled_channels

    @property
    def identity(self) -> dict[str, Any]:
        names = ("clip_l", "clip_g", "t5")
        parts = {name: part.identity for name, part in zip(names, self._parts, strict=True)}
        return {"encoder": "sd3", **parts}

    def truncated(self, captions: Sequence[str]) -> list[str]:
        clip_l, _, t5 = self._parts
        return (clip_l if isinstance(t5, ZeroTextEncoder) else t5).truncated(captions)

    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        clip_l, clip_g, t5 = (part.encode(captions) for part in self._parts)
        clips = torch.cat([clip_l.states, clip_g.states], dim=2)
        clips = F.pad(clips, (0, self.channels - clips.shape[2]))
        return TextEmbeddings(
            torch.cat([clips, t5.states], dim=1),
            torch.cat([clip_l.pooled, clip_g.pooled], dim=1),
            torch.cat([clip_l.mask, t5.mask], dim=1),
        )


class ZeroTextEncoder(TextEncoder):
    """Encoder whose embeddings are zero, which replaces a missing T5 as in diffusers.

    Args:
        length: Number of tokens.
        channels: Channels of the token embeddings.
        device: Device of the embeddings.
    """

    def __init__(self, length: int, channels: int, device: torch.device | str = "cpu"):
        self.length, self.channels, self.pooled_channels = length, channels, 0
        self._device = device

    @property
    def identity(self) -> dict[str, Any]:
        return {"encoder": "none", "length": self.length, "channels": self.channels}

    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        states = torch.zeros(len(captions), self.length, self.channels, device=self._device)
        mask = torch.ones(states.shape[:2], dtype=torch.bool, device=self._device)
        return TextEmbeddings(states, states[:, 0, :0], mask)


def load_flux_text_encoder(
    config: FluxTextConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> FluxTextEncoder:
    """Load the text encoders of a FLUX checkpoint.

    Args:
        config: Which checkpoint to load.
        device: Device of the encoders.
        dtype: Data type of the weights.

    Returns:
        The combined encoder.

    Raises:
        OSError: If an encoder is not found.
    """
    load = _loader(config.path, device, dtype)
    return FluxTextEncoder(
        load(1, length=CLIP_LENGTH, pooling="pooler"),
        load(2, length=config.length),
    )


def load_sd3_text_encoder(
    config: SD3TextConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> SD3TextEncoder:
    """Load the text encoders of a Stable Diffusion 3 checkpoint.

    Args:
        config: Which checkpoint to load.
        device: Device of the encoders.
        dtype: Data type of the weights.

    Returns:
        The combined encoder.

    Raises:
        OSError: If an encoder is not found.
        ValueError: If the encoders' sizes do not match.
    """
    load = _loader(config.path, device, dtype)
    clip_l, clip_g = (
        load(number, length=CLIP_LENGTH, layer="penultimate", pooling="projection")
        for number in (1, 2)
    )
    if config.with_t5:
        return SD3TextEncoder(clip_l, clip_g, load(3, length=config.length))
    return SD3TextEncoder(
        clip_l, clip_g, ZeroTextEncoder(config.length, _joint_channels(config.path), device)
    )


def _loader(
    path: str, device: torch.device | str, dtype: torch.dtype
) -> Callable[..., TransformersTextEncoder]:
    """Return a function that loads the checkpoint's n-th text encoder."""

    def load(number: int, **options: Any) -> TransformersTextEncoder:
        suffix = "" if number == 1 else f"_{number}"
        return load_text_encoder(
            path,
            subfolder=f"text_encoder{suffix}",
            tokenizer_subfolder=f"tokenizer{suffix}",
            see_padding=True,
            device=device,
            dtype=dtype,
            **options,
        )

    return load


def _joint_channels(path: str) -> int:
    """Return the width of the token embeddings that the checkpoint's transformer expects."""
    from diffusers import SD3Transformer2DModel

    config = SD3Transformer2DModel.load_config(path, subfolder="transformer")
    return int(config["joint_attention_dim"])
