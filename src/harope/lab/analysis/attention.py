"""Attention that a model's heads pay on real inputs, by the offset between query and key."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from harope.diffusion import GaussianDiffusion, Process, RectifiedFlow
from harope.lab.analysis.inspected_model import InspectedModel
from harope.lab.analysis.receptive_fields import Grid, mean_by_offset, mean_distance
from harope.lab.data.registry import open_captioned_dataset, open_dataset
from harope.lab.text import open_text_encoder
from harope.lab.training.config import TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig, open_held_out
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.dit import DiT
from harope.models.mmdit import run_mmdit

Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From noisy images and times to what the model says."""

NOISE_LEVELS = (0.1, 0.5, 0.9)
"""Times as shares of the whole process: 0 is an image, 1 noise."""


@dataclass(frozen=True, kw_only=True)
class AttentionStatistics:
    """Means over images and queries."""

    maps: Float[Tensor, "layers heads rows columns"]
    """Mean probability at each offset, times the number of tokens: 1 is what uniform attention
    pays. Attention to tokens without a place is left out."""
    distance: Float[Tensor, "layers heads"]
    """Mean distance attended over, in tokens."""
    elsewhere: Float[Tensor, "layers heads"]
    """Share of the attention that tokens without a place, or of text, get."""


def measure_attention(subject: InspectedModel, num_images: int) -> dict[str, AttentionStatistics]:
    """By noise level for what makes pictures ("noise 0.5"), or of clean held-out images for a
    classifier. Of text to image it is the attention between tokens of the image, given captions.

    The images are the first draws of the run's training data, or the first held-out ones; noise is
    that of seed 0. Raises ValueError or OSError where the data cannot be read.
    """
    model, train = subject.model, subject.train
    assert model is not None
    if isinstance(train, ClassifyConfig):
        images, _ = open_held_out(train.held_out).items(range(num_images))
        return {"held-out images": _measure(subject, lambda: model(images))}
    assert isinstance(train, TrainConfig | TextToImageConfig)
    if isinstance(train, TextToImageConfig):
        images, denoise = _captioned(model, train, num_images)
    else:
        assert isinstance(model, DiT)
        images, denoise = _labelled(model, train, num_images)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    found = {}
    for level in NOISE_LEVELS:
        x, times = _noisy(train.create_process(), images, noise, level)
        found[f"noise {level}"] = _measure(subject, partial(denoise, x, times))
    return found


def _labelled(model: DiT, train: TrainConfig, num_images: int) -> tuple[Tensor, Denoise]:
    """Images, and a forward with their labels."""
    images, labels = open_dataset(train.data, train.seed).samples(range(num_images))
    condition = (labels,) if model.config.num_classes else ()
    return images, lambda x, times: model(x, times, *condition)


def _captioned(
    model: nn.Module, train: TextToImageConfig, num_images: int
) -> tuple[Tensor, Denoise]:
    """Images, and a forward with the states of their captions."""
    images, captions = open_captioned_dataset(train.data, train.seed).samples(range(num_images))
    dtype = getattr(torch, train.states.encoder_dtype)
    states, pooled, _ = open_text_encoder(train.text, dtype=dtype).encode(captions)
    return images, lambda x, times: run_mmdit(model, x, times, states.float(), pooled.float())


def _noisy(process: Process, x0: Tensor, noise: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """x_t, and the times that the model is told."""
    if isinstance(process, RectifiedFlow):
        times = torch.full((len(x0),), level)
        return process.add_noise(x0, noise, times), 1000 * times
    assert isinstance(process, GaussianDiffusion)
    schedule = process.schedule
    steps = torch.full((len(x0),), round(level * (len(schedule) - 1)))
    return schedule.add_noise(x0, noise, steps), schedule.model_times(steps)


@torch.no_grad()
def _measure(subject: InspectedModel, forward: Callable[[], Any]) -> AttentionStatistics:
    capture = _Capture(subject)
    with capture:
        forward()
    if len(capture.maps) != len(subject.layers):
        raise ValueError(
            f"the model has {len(subject.layers)} attentions but called "
            f"scaled_dot_product_attention {len(capture.maps)} times: switch its fused attention on"
        )
    return AttentionStatistics(
        maps=torch.stack(capture.maps),
        distance=torch.stack(capture.distance),
        elsewhere=torch.stack(capture.elsewhere),
    )


class _Capture(TorchFunctionMode):
    """Reads queries and keys where they meet, whatever the model around them."""

    def __init__(self, subject: InspectedModel) -> None:
        super().__init__()
        self.sizes: Grid = subject.sizes
        self.prefix, self.text = subject.prefix, subject.text
        self.maps: list[Tensor] = []
        self.distance: list[Tensor] = []
        self.elsewhere: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            self._read(args[0], args[1])
        return func(*args, **(kwargs or {}))

    def _read(self, q: Tensor, k: Tensor) -> None:
        tokens = self.sizes[0] * self.sizes[1]
        more = q.shape[-2] - tokens
        # Some attentions of text-to-image models see the image alone.
        if more not in (self.prefix, self.prefix + self.text):
            raise ValueError(
                f"the model attends over {q.shape[-2]} tokens but the grid {self.sizes} and "
                f"{self.prefix + self.text} more make {tokens + self.prefix + self.text}: leave "
                f"--grid out, or measure none with --images 0"
            )
        places = slice(self.prefix, self.prefix + tokens)
        mean = torch.zeros(q.shape[1], tokens, tokens, dtype=torch.float64)
        # One image at a time: the probabilities of a whole batch may not fit.
        for query, key in zip(q.double(), k.double(), strict=True):
            scores = query[:, places] @ key.mT / q.shape[-1] ** 0.5
            mean += scores.softmax(-1)[..., places].cpu() / len(q)
        self.maps.append(tokens * mean_by_offset(mean, self.sizes))
        self.distance.append(mean_distance(mean, self.sizes))
        self.elsewhere.append(1 - mean.sum(-1).mean(-1))
