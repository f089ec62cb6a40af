"""Classifier-free guidance."""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from harope.diffusion.process import Denoiser


def guided(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    labels: Shaped[Tensor, "batch *label"],
    null_labels: Shaped[Tensor, "..."],
    scale: float,
    channels: int | None = None,
    prediction_channels: int | None = None,
) -> Denoiser:
    """Bind labels to `model(x, t, y)` and guide it: uncond + scale (cond - uncond).

    Ho & Salimans 2022 (arXiv 2207.12598). Both branches run in one doubled batch; a scale of 1
    runs the conditional one alone.

    Args:
        model: called with x, times and labels.
        labels: what each sample shall show: class indices, or embeddings.
        null_labels: as many, of the same shape, for the unconditional branch.
        scale: 0 ignores the labels, 1 is no guidance.
        channels: guide only this many leading channels, the rest being conditional (the DiT
            papers' tables guide 3 of 4 latent channels); all of the prediction by default.
        prediction_channels: how many leading channels of the output are the prediction; what
            follows is learned variance, always conditional. By default as many as x has.

    Raises ValueError when `channels` is not within the prediction, or the labels do not match.
    """
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
