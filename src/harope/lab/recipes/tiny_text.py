"""Tiny CLIP and T5 text encoders with one token per letter, for the tiny pipelines."""

from typing import Any

CLIP_CHANNELS = 16
"""Width and projection width of the CLIP text encoder."""
LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]


def clip_config() -> Any:
    """Create the configuration of the CLIP text encoder.

    Returns:
        A CLIPTextConfig.
    """
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        hidden_size=CLIP_CHANNELS,
        intermediate_size=CLIP_CHANNELS,
        projection_dim=CLIP_CHANNELS,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(_clip_vocabulary()),
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def clip_tokenizer() -> Any:
    """Create a CLIP tokenizer with one token per letter.

    Returns:
        A CLIPTokenizer.
    """
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=_clip_vocabulary(), merges=[], model_max_length=77)


def t5_encoder() -> Any:
    """Create a T5 encoder of width 32 with random weights.

    Returns:
        A T5EncoderModel.
    """
    from transformers import T5Config, T5EncoderModel

    size = len(t5_tokenizer())
    return T5EncoderModel(
        T5Config(vocab_size=size, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )


def t5_tokenizer() -> Any:
    """Create a T5 tokenizer with one token per letter.

    Returns:
        A T5Tokenizer.
    """
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", *LETTERS, "▁"]
    return T5Tokenizer(vocab=[(piece, 0.0) for piece in pieces], extra_ids=0)


def _clip_vocabulary() -> dict[str, int]:
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{x}</w>" for x in LETTERS)]
    return {word: index for index, word in enumerate(words)}
