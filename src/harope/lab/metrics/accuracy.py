"""How often a classifier is right."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from harope.lab.metrics.intervals import Proportion
from harope.rope import cached


@torch.no_grad()
def top_k_accuracy(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    ks: Sequence[int] = (1, 5),
) -> dict[int, Proportion]:
    """For each k, the images whose label is among the k classes that score highest.

    `model` maps images to logits (batch, classes), in eval mode. Batches are images (batch,
    channels, height, width) and labels (batch,) of sizes of their own, taken to its device.
    """
    device = next(model.parameters()).device
    right, total = dict.fromkeys(ks, 0), 0
    with cached(model):
        for images, labels in batches:
            logits = model(images.to(device))
            order = logits.topk(min(max(ks), logits.shape[1])).indices
            hits = order == labels.to(device)[:, None]
            for k in ks:
                right[k] += int(hits[:, :k].sum())
            total += len(labels)
    return {k: Proportion(count, total) for k, count in right.items()}
