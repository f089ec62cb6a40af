"""Classifier-free guidance."""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from harope._utils.argument_checks import check_integer, check_real, check_tensor
from harope.diffusion.process import Denoiser


def guided(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    labels: Shaped[Tensor, "batch *label"],
    null_labels: Shaped[Tensor, "..."],
    scale: float,
    channels: int | None = None,
    prediction_channels: int | None = None,
) -> Denoiser:
    """Build a denoiser with classifier-free guidance: uncond + scale (cond - uncond).

    Ho & Salimans 2022 (arXiv 2207.12598). Both branches are evaluated in one batch of twice the
    size; with a scale of 1 only the conditional branch is evaluated.

    Args:
        model: Called with x, times and labels.
        labels: Condition of each sample: class indices, or embeddings.
        null_labels: Condition of the unconditional branch, of the same shape.
        scale: Guidance scale; 0 ignores the labels, 1 is no guidance.
        channels: Number of leading channels to guide; the others are conditional. DiT guides 3 of
            the 4 latent channels. By default all channels of the prediction.
        prediction_channels: Number of leading output channels that are the prediction. Channels
            after them are the learned variance, which is always conditional. By default the number
            of channels of x.

    Returns:
        A denoiser `denoiser(x, t)` with the labels bound.

    Raises:
        ValueError: If the shapes of the labels differ, if the scale is not finite, or, when the
            denoiser is called, if `channels` is not within the prediction.
    """
    check_tensor("labels", labels)
    check_tensor("null_labels", null_labels)
    check_real("scale", scale)
    for name, count in (("channels", channels), ("prediction_channels", prediction_channels)):
        if count is not None:
            check_integer(name, count)
    if labels.shape != null_labels.shape:
        raise ValueError(
            f"labels {tuple(labels.shape)} and null_labels {tuple(null_labels.shape)} differ in "
            "shape: give one null label per label"
        )
    if scale == 1:
        return lambda x, t: model(x, t, labels)
    both = torch.cat([labels, null_labels])

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        prediction = x.shape[1] if prediction_channels is None else prediction_channels
        count = _guided_channels(channels, prediction)
        output = model(torch.cat([x, x]), torch.cat([t, t]), both)
        conditional, unconditional = output.chunk(2)
        base = unconditional[:, :count]
        guided_part = base + scale * (conditional[:, :count] - base)
        return torch.cat([guided_part, conditional[:, count:]], dim=1)

    return denoiser


def _guided_channels(channels: int | None, prediction_channels: int) -> int:
    if channels is None:
        return prediction_channels
    if not 1 <= channels <= prediction_channels:
        raise ValueError(
            f"channels {channels} is not within the {prediction_channels} channels of the "
            f"prediction: choose 1 to {prediction_channels}, or None for all"
        )
    return channels
