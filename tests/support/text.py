"""Random text encoders of a few thousand weights, in the layout of diffusers' checkpoints."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

WORDS = ["a", "picture", "of", "two", "red", "blue", "stars", "circle", "left", "square"]
CAPTIONS = ["a picture of two red stars", "a blue circle left of a square", ""]
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def save_clip(folder: Path, name: str, seed: int, width: int = 16, projection: int = 12) -> None:
    """A CLIP text model with a projection, and its tokenizer, as the parts of this number."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    ids = save_clip_tokenizer(folder / f"tokenizer{name}")
    config = CLIPTextConfig(
        vocab_size=len(ids),
        hidden_size=width,
        projection_dim=projection,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=ids[_BEGIN],
        eos_token_id=ids[_END],
        pad_token_id=ids[_END],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        CLIPTextModelWithProjection(config).save_pretrained(folder / f"text_encoder{name}")


def save_clip_tokenizer(folder: Path, words: Sequence[str] = WORDS) -> dict[str, int]:
    """Letters, words' ends and the merges that build whole words; returns the vocabulary."""
    letters = sorted({letter for word in words for letter in word})
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[str] = []
    for word in words:
        left, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for right in rest:
            merges.append(f"{left} {right}")
            left += right
            tokens.append(left)
    merges = list(dict.fromkeys(merges))
    ids = {token: i for i, token in enumerate(dict.fromkeys([*tokens, _BEGIN, _END]))}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    special = {"bos_token": _BEGIN, "eos_token": _END, "pad_token": _END, "unk_token": _END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | special))
    return ids


def save_t5(folder: Path, name: str, seed: int, width: int = 40) -> None:
    """A T5 encoder and its tokenizer, as the parts of this number."""
    from transformers import T5Config, T5EncoderModel

    save_t5_tokenizer(folder / f"tokenizer{name}")
    config = T5Config(
        vocab_size=len(WORDS) + 3, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        T5EncoderModel(config).save_pretrained(folder / f"text_encoder{name}")


def save_t5_tokenizer(folder: Path) -> None:
    """Whole words, closed by the end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | special))
