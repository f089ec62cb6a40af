"""How FLUX and Stable Diffusion 3 put their text encoders together.

Both are read from a checkpoint in diffusers' layout: `tokenizer`, `text_encoder`, `tokenizer_2`,
`text_encoder_2`, ...
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from harope.lab.text.encoder import TextEmbeddings, TextEncoder
from harope.lab.text.pretrained import TransformersTextEncoder, load_text_encoder

CLIP_LENGTH = 77


@dataclass(frozen=True, kw_only=True)
class FluxTextConfig:
    """The text encoders of a FLUX checkpoint."""

    kind: Literal["flux"] = "flux"
    path: str
    """Folder or hub id of the checkpoint."""
    length: int = 512
    """Tokens of T5."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length {self.length} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SD3TextConfig:
    """The text encoders of a Stable Diffusion 3 checkpoint."""

    kind: Literal["sd3"] = "sd3"
    path: str
    """Folder or hub id of the checkpoint."""
    length: int = 256
    """Tokens of T5, which follow the 77 of CLIP."""
    with_t5: bool = True
    """Whether T5 is read; without it, its states are zeros."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length {self.length} must be at least 1")


class FluxTextEncoder(TextEncoder):
    """States of T5; pooled output of CLIP."""

    def __init__(self, clip: TextEncoder, t5: TextEncoder):
        self._clip, self._t5 = clip, t5
        self.length, self.channels = t5.length, t5.channels
        self.pooled_channels = clip.pooled_channels

    @property
    def identity(self) -> dict[str, Any]:
        """The identities of both."""
        return {"encoder": "flux", "clip": self._clip.identity, "t5": self._t5.identity}

    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        """States (batch, length of T5, channels of T5)."""
        states = self._t5.encode(captions)
        return states._replace(pooled=self._clip.encode(captions).pooled)


class SD3TextEncoder(TextEncoder):
    """States of both CLIPs side by side, widened by zeros to T5's, then those of T5.

    Pooled: the projections of both CLIPs side by side (Esser et al. 2024, arXiv:2403.03206,
    section 4). Raises ValueError where the CLIPs together are wider than T5.
    """

    def __init__(self, clip_l: TextEncoder, clip_g: TextEncoder, t5: TextEncoder):
        clip_channels = clip_l.channels + clip_g.channels
        if clip_channels > t5.channels or clip_l.length != clip_g.length:
            raise ValueError(
                f"the CLIPs' states, {clip_l.length} x {clip_l.channels} and {clip_g.length} x "
                f"{clip_g.channels}, must be of one length and together not wider than T5's "
                f"{t5.channels} channels"
            )
        self._parts = clip_l, clip_g, t5
        self.length, self.channels = clip_l.length + t5.length, t5.channels
        self.pooled_channels = clip_l.pooled_channels + clip_g.pooled_channels

    @property
    def identity(self) -> dict[str, Any]:
        """The identities of all three."""
        names = ("clip_l", "clip_g", "t5")
        parts = {name: part.identity for name, part in zip(names, self._parts, strict=True)}
        return {"encoder": "sd3", **parts}

    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        """States (batch, length of CLIP and of T5, channels of T5)."""
        clip_l, clip_g, t5 = (part.encode(captions) for part in self._parts)
        clips = torch.cat([clip_l.states, clip_g.states], dim=2)
        clips = F.pad(clips, (0, self.channels - clips.shape[2]))
        return TextEmbeddings(
            torch.cat([clips, t5.states], dim=1),
            torch.cat([clip_l.pooled, clip_g.pooled], dim=1),
            torch.cat([clip_l.mask, t5.mask], dim=1),
        )


class ZeroTextEncoder(TextEncoder):
    """Zeros for every caption: what diffusers has in the place of a T5 that was left out."""

    def __init__(self, length: int, channels: int, device: torch.device | str = "cpu"):
        self.length, self.channels, self.pooled_channels = length, channels, 0
        self._device = device

    @property
    def identity(self) -> dict[str, Any]:
        """The sizes."""
        return {"encoder": "none", "length": self.length, "channels": self.channels}

    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        """States of zeros, pooled vectors of no channels."""
        states = torch.zeros(len(captions), self.length, self.channels, device=self._device)
        mask = torch.ones(states.shape[:2], dtype=torch.bool, device=self._device)
        return TextEmbeddings(states, states[:, 0, :0], mask)


def load_flux_text_encoder(
    config: FluxTextConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> FluxTextEncoder:
    """The encoders of a FLUX checkpoint. OSError where one is not found."""
    load = _loader(config.path, device, dtype)
    return FluxTextEncoder(
        load(1, length=CLIP_LENGTH, pooling="pooler"),
        load(2, length=config.length),
    )


def load_sd3_text_encoder(
    config: SD3TextConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> SD3TextEncoder:
    """The encoders of a Stable Diffusion 3 checkpoint. OSError where one is not found."""
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
    """Loads the text encoder of a number."""

    def load(number: int, **options: Any) -> TransformersTextEncoder:
        ending = "" if number == 1 else f"_{number}"
        return load_text_encoder(
            path,
            subfolder=f"text_encoder{ending}",
            tokenizer_subfolder=f"tokenizer{ending}",
            see_padding=True,
            device=device,
            dtype=dtype,
            **options,
        )

    return load


def _joint_channels(path: str) -> int:
    """Channels of the text that the checkpoint's transformer takes."""
    from diffusers import SD3Transformer2DModel

    config = SD3Transformer2DModel.load_config(path, subfolder="transformer")
    return int(config["joint_attention_dim"])
