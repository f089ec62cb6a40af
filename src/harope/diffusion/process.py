"""The one interface of a diffusion process: what training needs to know of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""`model(x, t)`: noisy x (batch, channels, height, width) and times (batch,) in 0..1000, float32,
to an output (batch, output_channels, height, width) of any floating dtype."""


class Process(ABC):
    """A way from data to noise, and the loss that teaches a model the way back."""

    @abstractmethod
    def sample_times(
        self, batch: int, generator: torch.Generator, device: torch.device | str
    ) -> Float[Tensor, "batch"]:
        """Draw training times, float32, in the process's own units.

        They are drawn where the generator lives and moved to `device`, so a CPU generator
        gives the same times on every device.
        """

    @abstractmethod
    def losses(
        self,
        model: Denoiser,
        x0: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> dict[str, Float[Tensor, "batch"]]:
        """Return per-sample float32 losses: "loss" is what is minimised, other keys its parts.

        Raises ValueError when the model's output is not `output_channels` wide.
        """

    @abstractmethod
    def output_channels(self, in_channels: int) -> int:
        """Return how many channels a model of `in_channels` input channels must return."""


def check_output_channels(process: Process, x: Tensor, output: Tensor) -> None:
    """Raise ValueError unless `output` is as wide as `process` needs it for `x`."""
    needed = process.output_channels(x.shape[1])
    if output.shape[1] != needed:
        raise ValueError(
            f"the model returned {output.shape[1]} channels for an input of {x.shape[1]}: "
            f"{type(process).__name__} needs {needed} (see process.output_channels)"
        )


def sample_mean(values: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch"]:
    """Mean over all dimensions but the first."""
    return values.flatten(1).mean(dim=1)
