"""Times of FLUX's rectified flow, shifted with the resolution as its scheduler shifts them.

The scheduler takes t to e^mu / (e^mu + 1 / t - 1), more noise for more tokens (arXiv 2403.03206,
section 5.3.2): logit t moves by mu.
"""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor


def logit_shift(scheduler: dict[str, Any], tokens: int) -> float:
    """By how much a FlowMatchEulerDiscreteScheduler of this config moves logit t."""
    if not scheduler.get("use_dynamic_shifting", False):
        return math.log(scheduler.get("shift", 1.0))
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    defaults = (256, 4096, 0.5, 1.15)
    values = (scheduler.get(name, value) for name, value in zip(names, defaults, strict=True))
    shift = calculate_shift(tokens, *values)
    return math.log(shift) if scheduler.get("time_shift_type") == "linear" else shift


def sample_flux_times(
    count: int,
    kind: Literal["logit-normal", "uniform"],
    shift: float,
    generator: torch.Generator,
) -> Float[Tensor, "count"]:
    """Times in 0..1, on the generator's device: logit t = shift + (normal or logit of uniform)."""
    draw = torch.randn if kind == "logit-normal" else torch.rand
    values = draw(count, generator=generator, device=generator.device)
    return torch.sigmoid((values if kind == "logit-normal" else torch.logit(values)) + shift)
