"""Captions to states: closed vocabularies, text encoders of transformers, and caches of states."""

from harope.lab.text.cache import CachedStates, fill_cache
from harope.lab.text.encoder import TextEncoder, TextStates
from harope.lab.text.multi_encoder import FluxText, FluxTextConfig, SD3Text, SD3TextConfig
from harope.lab.text.pretrained import PretrainedTextConfig, TransformersEncoder, load_encoder
from harope.lab.text.registry import TextConfig, open_text_encoder
from harope.lab.text.toy_vocab import ClosedVocabulary, ClosedVocabularyConfig

__all__ = [
    "CachedStates",
    "ClosedVocabulary",
    "ClosedVocabularyConfig",
    "FluxText",
    "FluxTextConfig",
    "PretrainedTextConfig",
    "SD3Text",
    "SD3TextConfig",
    "TextConfig",
    "TextEncoder",
    "TextStates",
    "TransformersEncoder",
    "fill_cache",
    "load_encoder",
    "open_text_encoder",
]
