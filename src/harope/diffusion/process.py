"""The interface of a diffusion process: everything that training needs to know about it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from harope._utils.argument_checks import check_tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""`model(x, t)`: takes noisy `x` (batch, channels, height, width) and float32 times (batch,) in
0..1000, and returns (batch, output_channels, height, width) in any floating dtype."""

OnStep = Callable[[int, int], None]
"""`on_step(steps_done, num_steps)`: called by samplers after every step, to report progress."""


class Process(ABC):
    """A corruption of data into noise, with the loss that trains a model to reverse it."""

    @abstractmethod
    def sample_times(
        self, batch: int, generator: torch.Generator, device: torch.device | str
    ) -> Float[Tensor, "batch"]:
        """Sample training times.

        Args:
            batch: Number of times.
            generator: Random generator. Times are sampled on its device and then moved, so a CPU
                generator gives the same times whatever `device` is.
            device: Device of the result.

        Returns:
            Times (batch,), float32, in the units of the process.
        """

    @abstractmethod
    def times_at(self, fractions: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """Compute quantiles of the distribution of training times.

        Args:
            fractions: Numbers in (0, 1). Evenly spread ones give the mean loss of training with
                fewer samples than random times do.

        Returns:
            The quantiles, float32, on the device of `fractions`: a training time is at most this
            large with the probability `fractions`.
        """

    @abstractmethod
    def losses(
        self,
        model: Denoiser,
        x0: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> dict[str, Float[Tensor, "batch"]]:
        """Compute the training losses of a batch.

        Args:
            model: The denoiser.
            x0: Clean images or latents.
            noise: Standard normal noise of the same shape.
            times: Times as returned by `sample_times`.

        Returns:
            Losses (batch,) in float32. The loss to minimise is "loss"; other keys are its terms.

        Raises:
            ValueError: If the shapes do not fit each other, or the model does not return
                `output_channels` channels.
        """

    @abstractmethod
    def output_channels(self, in_channels: int) -> int:
        """Return the number of output channels required of a model with `in_channels` inputs.

        Args:
            in_channels: Channels of images or latents.
        """


def check_batch(x0: Tensor, noise: Tensor, times: Tensor) -> None:
    """Raise ValueError unless a batch has noise of its shape and one time per sample.

    Args:
        x0: Clean images or latents, (batch, channels, height, width).
        noise: Their noise.
        times: Their times.
    """
    for name, value, axes in (("x0", x0, 4), ("noise", noise, 4), ("times", times, 1)):
        check_tensor(name, value, axes)
    if x0.shape != noise.shape or len(times) != len(x0):
        raise ValueError(
            f"x0 has the shape {tuple(x0.shape)} but noise {tuple(noise.shape)} and times "
            f"{tuple(times.shape)}: pass noise of the same shape and one time per sample"
        )


def check_output_channels(process: Process, x: Tensor, output: Tensor) -> None:
    """Raise ValueError unless `output` has the number of channels that `process` requires.

    Args:
        process: The diffusion process.
        x: Input of the model, (batch, channels, height, width).
        output: Output of the model.
    """
    check_tensor("output of the model", output, x.ndim)
    needed = process.output_channels(x.shape[1])
    if output.shape[1] != needed:
        raise ValueError(
            f"the model returned {output.shape[1]} channels for an input of {x.shape[1]}, but "
            f"{type(process).__name__} needs {needed}: build the model with "
            f"process.output_channels(in_channels) output channels"
        )


def sample_mean(values: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch"]:
    """Average each sample over all dimensions except the first.

    Args:
        values: One tensor per sample, with the samples first.
    """
    return values.flatten(1).mean(dim=1)
