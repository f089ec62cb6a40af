"""Text embeddings of captions: a toy vocabulary, pretrained encoders, and a cache on disk."""

from harope.lab.text.cache import EmbeddingCache, fill_cache
from harope.lab.text.encoder import TextEmbeddings, TextEncoder
from harope.lab.text.multi_encoder import (
    FluxTextConfig,
    FluxTextEncoder,
    SD3TextConfig,
    SD3TextEncoder,
)
from harope.lab.text.pretrained import (
    PretrainedTextConfig,
    TransformersTextEncoder,
    load_text_encoder,
)
from harope.lab.text.registry import TextConfig, open_text_encoder
from harope.lab.text.toy_vocab import ToyVocabularyConfig, ToyVocabularyEncoder

__all__ = [
    "EmbeddingCache",
    "FluxTextConfig",
    "FluxTextEncoder",
    "PretrainedTextConfig",
    "SD3TextConfig",
    "SD3TextEncoder",
    "TextConfig",
    "TextEmbeddings",
    "TextEncoder",
    "ToyVocabularyConfig",
    "ToyVocabularyEncoder",
    "TransformersTextEncoder",
    "fill_cache",
    "load_text_encoder",
    "open_text_encoder",
]
