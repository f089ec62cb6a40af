"""Loading the text encoder that a config describes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch

from harope._utils.digests import listing_digest
from harope._utils.hub import find_files
from harope.lab.text.encoder import TextEncoder
from harope.lab.text.multi_encoder import (
    CLIP_LENGTH,
    FluxTextConfig,
    SD3TextConfig,
    load_flux_text_encoder,
    load_sd3_text_encoder,
)
from harope.lab.text.pretrained import MINILM, PretrainedTextConfig, find_minilm, load_text_encoder
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


def encoder_source(config: TextConfig, dtype: torch.dtype) -> dict[str, Any] | None:
    """Describe what `open_text_encoder` loads, without loading it.

    Args:
        config: Which encoder.
        dtype: Data type of the weights.

    Returns:
        JSON values that change with the options and with the names, sizes and times of change of
        the encoder's files; None if the files are not known because they are not downloaded yet.
    """
    options: dict[str, Any] = asdict(config) | {"dtype": str(dtype).removeprefix("torch.")}
    path = options.pop("path", None)
    if path is None:
        return options
    folder = Path(find_minilm()) if path == MINILM else find_files(path)
    if folder is None:
        return None
    names = sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and _belongs_to_encoder(file.relative_to(folder), config)
    )
    return options | {"files": listing_digest(folder, names, times=True)}


def _belongs_to_encoder(file: Path, config: TextConfig) -> bool:
    if isinstance(config, PretrainedTextConfig):
        return True
    # SD3 without T5 takes the width of its embeddings from the transformer's configuration.
    return file.parts[0].startswith(("text_encoder", "tokenizer")) or file.parts == (
        "transformer",
        "config.json",
    )
