"""Sampling images or latents from a model, given labels and seeds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope._utils.argument_checks import check_fields, check_integer, check_sequence, check_sizes
from harope.diffusion.guidance import guided
from harope.diffusion.noise import SampleNoise
from harope.diffusion.process import OnStep, Process
from harope.diffusion.sampling import check_sampling, sampler_for
from harope.rope.encoding import cached


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Sampler, number of steps and classifier-free guidance."""

    sampler: str = "ancestral"
    """Name of the sampler: ancestral, ddim or dpm for ddpm; euler or heun for flow."""
    num_steps: int = 250
    """Number of sampler steps; heun evaluates the model twice per step."""
    guidance: float = 1.5
    """Scale of classifier-free guidance (arXiv 2207.12598); 1 is no guidance."""
    guidance_channels: int | None = None
    """Number of leading channels to guide; None for all. DiT reports results with 3 of 4."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.guidance_channels is not None:
            check_integer("guidance_channels", self.guidance_channels, 1)
        if self.num_steps < 1 or self.guidance < 0:
            raise ValueError(
                f"num_steps {self.num_steps} must be at least 1 and guidance {self.guidance} "
                f"must not be negative"
            )


def generate(
    model: Callable[..., Tensor],
    process: Process,
    *,
    shape: tuple[int, int, int],
    labels: Sequence[int] | None,
    null_class: int | None,
    seeds: Sequence[int],
    config: SamplingConfig,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Sample one image or latent per seed; each depends only on its own label and seed.

    Args:
        model: Called as `model(x, t, y)`, or as `model(x, t)` if `labels` is None.
        process: The process that the model was trained on.
        shape: Shape of one sample, (channels, height, width).
        labels: One class per seed, or None for a model without classes.
        null_class: Label of the unconditional branch of guidance; None if the model has none.
        seeds: One seed per sample.
        config: Sampler, number of steps and guidance.
        device: Device of the model.
        on_step: Progress callback.

    Returns:
        Samples (batch, channels, height, width), float32.

    Raises:
        ValueError: If guidance is requested of a model without a null class, if the sampler or its
            number of steps does not fit the process, or if there is not one class per seed.
    """
    check_sizes("shape", shape)
    if len(shape) != 3:
        raise ValueError(f"shape {tuple(shape)} must be (channels, height, width)")
    noise = SampleNoise(seeds, shape, device)
    check_sampling(config.sampler, process, config.num_steps)
    sampler = sampler_for(config.sampler, process)
    if labels is None:
        with _cached(model):
            return sampler(model, process, noise, config.num_steps, on_step)
    if config.guidance != 1 and null_class is None:
        raise ValueError(
            f"guidance {config.guidance} needs a null class, but the model was trained without "
            f"label dropout: use guidance 1"
        )
    check_sequence("labels", labels)
    if len(labels) != len(seeds):
        raise ValueError(
            f"labels has {len(labels)} entries but seeds {len(seeds)}: give one label per seed"
        )
    for label in labels:
        check_integer("labels", label, 0)
    if null_class is not None:
        check_integer("null_class", null_class, 0)
    y = torch.tensor(labels, dtype=torch.int64, device=device)
    null = torch.full_like(y, null_class if null_class is not None else 0)
    denoiser = guided(model, y, null, config.guidance, config.guidance_channels, shape[0])
    with _cached(model):
        return sampler(denoiser, process, noise, config.num_steps, on_step)


def _cached(model: Callable[..., Tensor]) -> AbstractContextManager[None]:
    """All steps have the same weights, so that encodings compute their matrices only once."""
    return cached(model) if isinstance(model, nn.Module) else nullcontext()


def batches(count: int, batch_size: int) -> Iterator[range]:
    """Yield consecutive ranges of at most `batch_size` that cover 0 .. count - 1.

    Args:
        count: Number of items.
        batch_size: Largest length of a range.

    Raises:
        ValueError: If `batch_size` is less than 1.
    """
    check_integer("batch_size", batch_size, 1)
    for start in range(0, count, batch_size):
        yield range(start, min(start + batch_size, count))
