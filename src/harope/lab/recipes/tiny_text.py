"""Random CLIP and T5 that read letters: the parts of a small pipeline in the hub's layout."""

from typing import Any

LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]


def clip_config() -> Any:
    """A CLIPTextConfig, 16 channels wide."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        hidden_size=16,
        intermediate_size=16,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(_clip_vocabulary()),
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def clip_tokenizer() -> Any:
    """A CLIPTokenizer of letters."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=_clip_vocabulary(), merges=[], model_max_length=77)


def t5_encoder() -> Any:
    """A T5EncoderModel, 32 channels wide."""
    from transformers import T5Config, T5EncoderModel

    size = len(t5_tokenizer())
    return T5EncoderModel(
        T5Config(vocab_size=size, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )


def t5_tokenizer() -> Any:
    """A T5Tokenizer of letters."""
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", *LETTERS, "▁"]
    return T5Tokenizer(vocab=[(piece, 0.0) for piece in pieces], extra_ids=0)


def _clip_vocabulary() -> dict[str, int]:
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{x}</w>" for x in LETTERS)]
    return {word: index for index, word in enumerate(words)}
