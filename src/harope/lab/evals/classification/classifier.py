"""A small classifier of real images, as the judge of class-conditional samples."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_SIZE = 128


def train_classifier(
    images: Float[Tensor, "images channels height width"],
    labels: Int[Tensor, " images"],
    *,
    num_classes: int,
    epochs: int,
    seed: int = 0,
) -> nn.Module:
    """A convolutional network of two stages trained on images in [-1, 1], in eval mode.

    AdamW under a one-cycle rate; the same seed gives the same network on one machine.
    """
    torch.manual_seed(seed)
    model = _network(images.shape[1], num_classes)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = epochs * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for batch in order[: len(order) // BATCH_SIZE * BATCH_SIZE].split(BATCH_SIZE):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def predict(
    model: nn.Module, images: Float[Tensor, "images channels height width"]
) -> Int[Tensor, " images"]:
    """The most likely class of each image."""
    return torch.cat([model(part).argmax(dim=1) for part in images.split(1024)])


def _network(channels: int, num_classes: int) -> nn.Module:
    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(
        *stage(channels, 32),
        *stage(32, 64),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 16, num_classes),
    )
