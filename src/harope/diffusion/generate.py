"""Drawing samples: a model, a process, labels and seeds to pictures or latents."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope.diffusion.guidance import guided
from harope.diffusion.noise import SampleNoise
from harope.diffusion.process import Process
from harope.diffusion.sampling import sampler_for
from harope.rope.cache import cached


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How samples are drawn."""

    sampler: str = "ancestral"
    """ancestral, ddim or dpm for ddpm; euler or heun for flow."""
    num_steps: int = 250
    """Steps of the sampler; heun calls the model twice a step."""
    guidance: float = 1.5
    """Scale of classifier-free guidance; 1 is none."""
    guidance_channels: int | None = None
    """Leading channels that are guided (the papers' tables: 3 of 4); None for all."""

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.guidance < 0:
            raise ValueError(
                f"num_steps {self.num_steps} must be at least 1 and guidance {self.guidance} "
                f"not negative"
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
    on_step: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Samples of `shape`, one per seed, each depending on its own label and seed alone.

    Args:
        model: `model(x, t, y)`, or `model(x, t)` where labels is None.
        labels: one class per seed.
        null_class: the label that stands for none; needed for guidance.

    Raises ValueError when guidance is asked of a model without a null class.
    """
    noise = SampleNoise(seeds, shape, device)
    sampler = sampler_for(config.sampler, process)
    if labels is None:
        with _cached(model):
            return sampler(model, process, noise, config.num_steps, on_step)
    if config.guidance != 1 and null_class is None:
        raise ValueError(
            f"guidance {config.guidance} needs a null class but the model was trained without "
            f"label dropout: use guidance 1"
        )
    y = torch.tensor(labels, dtype=torch.int64, device=device)
    null = torch.full_like(y, null_class if null_class is not None else 0)
    denoiser = guided(model, y, null, config.guidance, config.guidance_channels, shape[0])
    with _cached(model):
        return sampler(denoiser, process, noise, config.num_steps, on_step)


def _cached(model: Callable[..., Tensor]) -> AbstractContextManager[None]:
    """All steps have the same weights, so that encodings compute their matrices only once."""
    return cached(model) if isinstance(model, nn.Module) else nullcontext()


def batches(count: int, batch_size: int) -> Iterator[range]:
    """Consecutive ranges of at most `batch_size` that cover 0 .. count."""
    for start in range(0, count, batch_size):
        yield range(start, min(start + batch_size, count))
