"""Captions to states: closed vocabularies, text encoders of transformers, and caches of states."""

from harope.text.cache import CachedStates, fill_cache
from harope.text.closed import ClosedVocabulary, ClosedVocabularyConfig
from harope.text.composed import FluxText, FluxTextConfig, SD3Text, SD3TextConfig
from harope.text.encoder import TextEncoder, TextStates
from harope.text.pretrained import PretrainedTextConfig, TransformersEncoder, load_encoder
from harope.text.registry import TextConfig, open_text_encoder

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
