"""Validation loss of diffusion models: the loss at fixed images, times and noise.

The training loss of a step depends most on the times that were sampled for it. Here every image has
a time and a noise of its own, which are the same in every evaluation, so that two values differ
because the weights do.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope.diffusion import Denoiser, Process
from harope.diffusion.noise import SampleNoise
from harope.lab.data.dataset import Dataset, FiniteDataset
from harope.rope import cached

T = TypeVar("T")

HELD_OUT_LOSS, TRAINING_DATA_LOSS = "validation_loss", "fixed_training_loss"
"""Names of the loss on held-out images, and on images that the model is trained on."""

_MAX_BATCH = 64
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
# Keeps the noise of validation apart from that of sample grids, whose seeds count from 0.
_FIRST_SEED = 2**40


class FixedNoise(NamedTuple):
    """Where and how a batch of validation images is noised."""

    fractions: Float[Tensor, " batch"]
    """Quantiles in (0, 1) of the training's distribution of times."""
    seeds: Sequence[int]
    """Seed of each image's noise."""

    def sample(self, shape: Sequence[int], device: torch.device, count: int = 1) -> list[Tensor]:
        """Sample standard normal noise, which depends on the seeds only.

        Args:
            shape: Shape of an image or latent, (channels, height, width).
            device: Device of the result.
            count: Number of independent samples.

        Returns:
            Tensors (batch, channels, height, width), float32.
        """
        noise = SampleNoise(self.seeds, shape, device)
        return [noise.next() for _ in range(count)]


def losses_at(
    process: Process,
    model: Denoiser,
    x0: Float[Tensor, "batch channels height width"],
    fixed: FixedNoise,
) -> dict[str, Tensor]:
    """Compute the losses of images at fixed times and noise.

    Args:
        process: Diffusion process of the training.
        model: The network, called with noised images and times.
        x0: Clean images or latents.
        fixed: Times and noise.

    Returns:
        Losses (batch,), as `Process.losses` does.
    """
    (noise,) = fixed.sample(x0.shape[1:], x0.device)
    times = process.times_at(fixed.fractions).to(x0.device)
    return process.losses(model, x0, noise, times)


class ValidationImages(Generic[T]):
    """A fixed selection of held-out images or, if there are none, of training images.

    Args:
        source: Training data.
        held_out: Held-out data, or None.
        count: Number of images; if the data has fewer, all are used.

    Raises:
        ValueError: If held-out data has another shape than the training data.
    """

    def __init__(self, source: Dataset[T], held_out: Dataset[T] | None, count: int) -> None:
        self.metric = TRAINING_DATA_LOSS if held_out is None else HELD_OUT_LOSS
        data = source if held_out is None else held_out
        if data.shape != source.shape:
            raise ValueError(
                f"held-out images have the shape {data.shape}, but training images {source.shape}: "
                f"set validation_images to 0, or use data of one shape"
            )
        # A copy: a stream has a position, at which the training goes on.
        data = copy.copy(data)
        self._read: Callable[[Sequence[int]], T] = data.samples
        self._numbers: Sequence[int] = range(count)
        if isinstance(data, FiniteDataset):
            # Spread evenly, because images may be sorted by class.
            count = min(count, len(data))
            self._numbers = [index * len(data) // count for index in range(count)]
            self._read = data.items

    def batches(self, batch_size: int) -> Iterator[tuple[T, FixedNoise]]:
        """Yield all images once, with their times and noise, which do not depend on the batches.

        Args:
            batch_size: Largest number of images per batch.

        Yields:
            Batches on the CPU.
        """
        size = min(batch_size, _MAX_BATCH)
        for first in range(0, len(self._numbers), size):
            numbers = range(first, min(first + size, len(self._numbers)))
            # Multiples of the golden ratio are spread evenly, however many there are.
            fractions = [(number + 0.5) * _GOLDEN_RATIO % 1 for number in numbers]
            noise = FixedNoise(torch.tensor(fractions), [_FIRST_SEED + n for n in numbers])
            yield self._read([self._numbers[number] for number in numbers]), noise


def validation_metrics(
    model: nn.Module,
    images: ValidationImages[T] | None,
    losses: Callable[[T, FixedNoise], dict[str, Tensor]],
    batch_size: int,
) -> dict[str, Any]:
    """Evaluate the mean loss of a model on validation images.

    Args:
        model: The model, in eval mode.
        images: Images to use, or None.
        losses: Computes the losses of a batch, of which "loss" is averaged.
        batch_size: Largest number of images per batch.

    Returns:
        The loss by its name, see `ValidationImages`; nothing without images.
    """
    if images is None:
        return {}
    batches = images.batches(batch_size)
    return {images.metric: mean_loss(model, (losses(*batch)["loss"] for batch in batches))}


@torch.no_grad()
def mean_loss(model: nn.Module, losses: Iterable[Float[Tensor, " batch"]]) -> float:
    """Average losses while the model's rotation tables and matrices are computed only once.

    Args:
        model: The model, in eval mode.
        losses: Losses of each image, batch by batch, which are computed as they are iterated over.

    Returns:
        Mean over all images.
    """
    with cached(model):
        return float(torch.cat([batch.double() for batch in losses]).mean())
