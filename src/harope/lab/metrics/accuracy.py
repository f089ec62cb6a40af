"""Top-k accuracy of classifiers."""

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
    """Count for each k the images whose label is among the k classes with the highest logits.

    Args:
        model: Maps images to logits (batch, classes); in eval mode.
        batches: Images (batch, channels, height, width) and labels (batch,) on any device. Batch
            sizes may differ.
        ks: Numbers of classes that may contain the label.

    Returns:
        The accuracy for each k.
    """
    device = next(model.parameters()).device
    correct, total = torch.zeros(len(ks), dtype=torch.int64, device=device), 0
    with cached(model):
        for images, labels in batches:
            logits = model(images.to(device))
            order = logits.topk(min(max(ks), logits.shape[1])).indices
            hits = order == labels.to(device)[:, None]
            # Added up on the device: reading a count would wait for it.
            correct += torch.stack([hits[:, :k].sum() for k in ks])
            total += len(labels)
    return {k: Proportion(count, total) for k, count in zip(ks, correct.tolist(), strict=True)}
