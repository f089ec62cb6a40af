"""Training of the matrices of HARoPE in a model whose other weights stay as they are."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from harope.diffusion import Process
from harope.lab.data.dataset import LabelledDataset
from harope.models.dit import DiT
from harope.rope import encoding_parameters

TRAINING_SEED, HELD_OUT_SEED = 1, 2
"""Seeds of times and noises in training, and on the scenes that the loss is measured on."""


def train_matrices(
    model: DiT,
    process: Process,
    data: LabelledDataset,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    on_step: Callable[[int], None],
) -> None:
    """Train the matrices of a model's encodings, in place; all other weights are left unchanged.

    AdamW, with a learning rate that rises over the first tenth of the steps and falls to 0 over
    the second half.

    Args:
        model: Model in which `harope` is installed.
        process: Diffusion process of the model's training.
        data: Training images with their classes.
        steps: Number of optimizer steps.
        batch_size: Images per step.
        lr: Largest learning rate.
        on_step: Called after every step with the number of steps done.
    """
    matrices = encoding_parameters(model)
    model.requires_grad_(False)
    for parameter in matrices:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(matrices, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    generator = torch.Generator().manual_seed(TRAINING_SEED)
    model.train()
    for step in range(steps):
        rise, fall = (step + 1) / max(1, steps / 10), 2 * (steps - step) / steps
        optimizer.param_groups[0]["lr"] = lr * min(1.0, rise, fall)
        images, labels = data.samples(range(step * batch_size, (step + 1) * batch_size))
        _losses(model, process, images, labels, generator).mean().backward()
        torch.nn.utils.clip_grad_norm_(matrices, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        on_step(step + 1)
    model.eval()


@torch.no_grad()
def held_out_losses(
    model: DiT, process: Process, data: LabelledDataset, count: int
) -> Float[Tensor, " images"]:
    """Compute the loss on images that were not trained on, at the same times and noises each call.

    Args:
        model: The model, in eval mode.
        process: Diffusion process of the model's training.
        data: Images with their classes.
        count: Number of images.

    Returns:
        Loss of each image.
    """
    images, labels = data.samples(range(count))
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    return _losses(model, process, images, labels, generator)


def _losses(
    model: DiT, process: Process, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    times = process.sample_times(len(images), generator, images.device)
    noise = torch.randn(images.shape, generator=generator)
    uniform = torch.rand(len(images), generator=generator)
    # As in the model's training, some images have no class, which guidance needs.
    drop = uniform < model.config.label_dropout
    return process.losses(lambda x, t: model(x, t, labels, drop_labels=drop), images, noise, times)[
        "loss"
    ]
