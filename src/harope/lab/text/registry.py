"""Loading the text encoder that a config describes."""

from typing import TypeAlias

import torch

from harope.lab.text.encoder import TextEncoder
from harope.lab.text.multi_encoder import (
    CLIP_LENGTH,
    FluxTextConfig,
    SD3TextConfig,
    load_flux_text_encoder,
    load_sd3_text_encoder,
)
from harope.lab.text.pretrained import PretrainedTextConfig, load_text_encoder
from harope.lab.text.toy_vocab import ToyVocabularyConfig, ToyVocabularyEncoder

TextConfig: TypeAlias = ToyVocabularyConfig | PretrainedTextConfig | FluxTextConfig | SD3TextConfig
"""Config of any text encoder; the field `kind` distinguishes them."""


def text_length(config: TextConfig) -> int:
    """Return an encoder's number of tokens without loading it.

    Args:
        config: Which encoder.

    Returns:
        Number of tokens of every caption, including padding.
    """
    return config.length + (CLIP_LENGTH if isinstance(config, SD3TextConfig) else 0)


def open_text_encoder(
    config: TextConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TextEncoder:
    """Load the text encoder that a config describes.

    Args:
        config: Which encoder to load.
        device: Device of the encoder. `ToyVocabularyEncoder` has no weights and stays on the CPU.
        dtype: Data type of the weights.

    Returns:
        The encoder.

    Raises:
        OSError: If a checkpoint is not found.
        ImportError: If the encoder's library is not installed.
    """
    match config:
        case ToyVocabularyConfig():
            return ToyVocabularyEncoder(config.channels, config.length)
        case PretrainedTextConfig():
            return load_text_encoder(
                config.path,
                length=config.length,
                layer=config.layer,
                pooling=config.pooling,
                device=device,
                dtype=dtype,
            )
        case FluxTextConfig():
            return load_flux_text_encoder(config, device, dtype)
        case SD3TextConfig():
            return load_sd3_text_encoder(config, device, dtype)
