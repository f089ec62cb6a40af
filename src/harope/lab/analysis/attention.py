"""Mean attention of a model's heads on real inputs, by the offset between query and key."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope.diffusion import GaussianDiffusion, Process, RectifiedFlow
from harope.lab.analysis.capture import capture_attention
from harope.lab.analysis.inspected_model import InspectedModel
from harope.lab.analysis.receptive_fields import mean_by_offset, mean_distance
from harope.lab.data.registry import open_captioned_dataset, open_dataset
from harope.lab.text import open_text_encoder
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig, open_held_out
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.dit import DiT
from harope.models.mmdit import run_mmdit

Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Maps noisy images and times to the model's output."""

NOISE_LEVELS = (0.1, 0.5, 0.9)
"""Times as fractions of the diffusion process: 0 is an image, 1 noise."""


@dataclass(frozen=True, kw_only=True)
class AttentionStatistics:
    """Attention of every head, averaged over images and queries."""

    maps: Float[Tensor, "layers heads rows columns"]
    """Mean probability at each offset times the number of tokens, so that uniform attention is 1.
    Attention to prefix and text tokens is left out."""
    distance: Float[Tensor, "layers heads"]
    """Mean attention distance in tokens."""
    elsewhere: Float[Tensor, "layers heads"]
    """Fraction of the attention that goes to prefix and text tokens."""


def measure_attention(inspected: InspectedModel, num_images: int) -> dict[str, AttentionStatistics]:
    """Measure the attention between image tokens on images of the run's data.

    A generative model gets the first training images with noise of seed 0, and their labels or
    captions. A classifier gets the first held-out images.

    Args:
        inspected: A model whose training is known.
        num_images: Number of images.

    Returns:
        Statistics by noise level, as "noise 0.5", or those of the "held-out images".

    Raises:
        ValueError: The model does not use scaled_dot_product_attention, or the grid is not that
            of the images.
        OSError: The data cannot be read.
    """
    model, train = inspected.model, inspected.train
    assert model is not None
    if isinstance(train, ClassifyConfig):
        images, _ = open_held_out(train.data_parts()[1]).items(range(num_images))
        return {"held-out images": _measure(inspected, lambda: model(images))}
    assert isinstance(train, TrainConfig | TextToImageConfig)
    if isinstance(train, TextToImageConfig):
        images, denoise = _captioned(model, train, num_images)
    else:
        assert isinstance(model, DiT)
        images, denoise = _labelled(model, train, num_images)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    statistics = {}
    for level in NOISE_LEVELS:
        x, times = _noisy(train.create_process(), images, noise, level)
        statistics[f"noise {level}"] = _measure(inspected, partial(denoise, x, times))
    return statistics


def _labelled(model: DiT, train: TrainConfig, num_images: int) -> tuple[Tensor, Denoise]:
    """Return images and a forward pass conditioned on their labels."""
    images, labels = open_dataset(train.data, train.seed).samples(range(num_images))
    condition = (labels,) if model.config.num_classes else ()
    return images, lambda x, times: model(x, times, *condition)


def _captioned(
    model: nn.Module, train: TextToImageConfig, num_images: int
) -> tuple[Tensor, Denoise]:
    """Return images and a forward pass conditioned on their captions."""
    images, captions = open_captioned_dataset(train.data, train.seed).samples(range(num_images))
    dtype = getattr(torch, train.states.encoder_dtype)
    states, pooled, _ = open_text_encoder(train.text, dtype=dtype).encode(captions)
    return images, lambda x, times: run_mmdit(model, x, times, states.float(), pooled.float())


def _noisy(process: Process, x0: Tensor, noise: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Return x_t, and the times in the units of the model."""
    if isinstance(process, RectifiedFlow):
        times = torch.full((len(x0),), level)
        return process.add_noise(x0, noise, times), 1000 * times
    assert isinstance(process, GaussianDiffusion)
    schedule = process.schedule
    steps = torch.full((len(x0),), round(level * (len(schedule) - 1)))
    return schedule.add_noise(x0, noise, steps), schedule.model_times(steps)


@torch.no_grad()
def _measure(inspected: InspectedModel, forward: Callable[[], Any]) -> AttentionStatistics:
    layers = capture_attention(
        forward, partial(_attention_statistics, inspected), len(inspected.layers)
    )
    maps, distance, elsewhere = (torch.stack(parts) for parts in zip(*layers, strict=True))
    return AttentionStatistics(maps=maps, distance=distance, elsewhere=elsewhere)


def _attention_statistics(
    inspected: InspectedModel, q: Tensor, k: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the maps, the distance and the fraction elsewhere of each head of one layer."""
    sizes, prefix, text = (
        inspected.sizes,
        inspected.num_prefix_tokens,
        inspected.num_text_tokens,
    )
    tokens = sizes[0] * sizes[1]
    # Some attentions of text-to-image models see the image only.
    if q.shape[-2] - tokens not in (prefix, prefix + text):
        raise ValueError(
            f"The model attends over {q.shape[-2]} tokens but the grid {sizes} and "
            f"{prefix + text} other tokens are {tokens + prefix + text}: omit --grid, or measure "
            f"no attention with --images 0"
        )
    image = slice(prefix, prefix + tokens)
    mean = torch.zeros(q.shape[1], tokens, tokens, dtype=torch.float64)
    # One image at a time, since the probabilities of a whole batch may not fit into memory.
    for query, key in zip(q.double(), k.double(), strict=True):
        scores = query[:, image] @ key.mT / q.shape[-1] ** 0.5
        mean += scores.softmax(-1)[..., image].cpu() / len(q)
    maps = tokens * mean_by_offset(mean, sizes)
    return maps, mean_distance(mean, sizes), 1 - mean.sum(-1).mean(-1)
