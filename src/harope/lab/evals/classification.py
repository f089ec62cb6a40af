"""Class accuracy of class-conditional samples, by a small classifier trained on real images."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from harope._utils.progress import Progress
from harope.lab.data.dataset import FiniteLabelledDataset
from harope.lab.data.registry import open_dataset
from harope.lab.metrics.intervals import Proportion, Scores, count_successes
from harope.lab.reporting.images import read_images
from harope.lab.sampling.class_folder import MANIFEST_FILE, read_folder
from harope.lab.training.serialization import from_json
from harope.lab.training.tasks.class_conditional import TrainConfig

BATCH_SIZE = 128


def class_scores(folder: Path, epochs: int, *, quiet: bool = True) -> dict[str, Scores]:
    """Measure the accuracy of samples against their labels, per class and overall.

    The classifier is trained on the images that the sampled model was trained on.

    Args:
        folder: Class-conditional samples of `harope sample`.
        epochs: Training epochs of the classifier.
        quiet: Whether to hide the progress bar.

    Returns:
        The scores of the "samples", and of the "real test images": the classifier's own accuracy
        on the test split of the data.

    Raises:
        ValueError: If the folder does not name training data with a test split.

    Warns:
        UserWarning: If the samples or the test images have no image of a class.
    """
    info, paths = read_folder(folder)
    labels, num_classes = info.labels, info.model.get("num_classes")
    data = (info.train or {}).get("data")
    if labels is None or not isinstance(num_classes, int) or "split" not in (data or ()):
        raise ValueError(
            f"{folder} holds no samples of a model trained on data with a test split: "
            f"score samples of fashion-dit"
        )
    train, test = (_load_split(info.train, split, folder) for split in ("train", "test"))
    tested = test[1].tolist()
    warn_of_missing_classes("samples", labels, tested)
    warn_of_missing_classes("real test images", tested, labels)
    model = train_classifier(*train, num_classes=num_classes, epochs=epochs, quiet=quiet)
    samples = read_images(paths).mean(dim=1, keepdim=True) * 2 - 1
    return {
        "samples": _accuracy(predict(model, samples), torch.tensor(labels)),
        "real test images": _accuracy(predict(model, test[0]), test[1]),
    }


def warn_of_missing_classes(name: str, classes: Iterable[object], others: Iterable[object]) -> None:
    """Warn of classes that one of two image sets does not have.

    Args:
        name: What the images are, for the message.
        classes: Classes of the images.
        others: Classes of the images that they are compared with, in the order of the message.
    """
    present = set(classes)
    missing = [str(label) for label in dict.fromkeys(others) if label not in present]
    if missing:
        more = ", ..." if len(missing) > 10 else ""
        warnings.warn(
            f"the {name} have no image of {len(missing)} classes: {', '.join(missing[:10])}{more}",
            stacklevel=2,
        )


def train_classifier(
    images: Float[Tensor, "images channels height width"],
    labels: Int[Tensor, " images"],
    *,
    num_classes: int,
    epochs: int,
    seed: int = 0,
    quiet: bool = True,
) -> nn.Module:
    """Train a small convolutional classifier with AdamW and a one-cycle learning rate.

    Args:
        images: Values in [-1, 1].
        labels: Class of each image.
        num_classes: Number of classes.
        epochs: Passes over the images.
        seed: Seeds weights, order and dropout. One seed gives one classifier on one machine.
        quiet: Whether to hide the progress bar.

    Returns:
        The classifier in eval mode.

    Raises:
        ValueError: If there are no epochs, or fewer images than in one batch.
    """
    if epochs < 1 or len(images) < BATCH_SIZE:
        raise ValueError(
            f"epochs {epochs} must be at least 1, and {len(images)} images at least {BATCH_SIZE}"
        )
    torch.manual_seed(seed)
    model = _network(images.shape[1], num_classes)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = epochs * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    with Progress(steps, "training steps of the classifier", quiet=quiet) as bar:
        for _ in range(epochs):
            order = torch.randperm(len(images))
            for batch in order[: len(order) // BATCH_SIZE * BATCH_SIZE].split(BATCH_SIZE):
                loss = F.cross_entropy(model(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
    return model.eval()


@torch.no_grad()
def predict(
    model: nn.Module, images: Float[Tensor, "images channels height width"]
) -> Int[Tensor, " images"]:
    """Classify images.

    Args:
        model: Classifier of `train_classifier`.
        images: Values in [-1, 1].

    Returns:
        The most likely class of each image.
    """
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


def _load_split(train: dict[str, Any] | None, split: str, folder: Path) -> tuple[Tensor, Tensor]:
    assert train is not None
    try:
        config = from_json(train | {"data": {**train["data"], "split": split}})
    except ValueError as error:
        raise ValueError(f"{folder / MANIFEST_FILE}: train: {error}") from None
    assert isinstance(config, TrainConfig)
    source = open_dataset(config.data, seed=0)
    assert isinstance(source, FiniteLabelledDataset)
    return source.items(range(len(source)))


def _accuracy(predicted: Tensor, labels: Tensor) -> dict[str, Proportion]:
    right = (predicted == labels).tolist()
    verdicts = [("all", hit) for hit in right]
    verdicts += [
        (f"class {label}", hit) for label, hit in sorted(zip(labels.tolist(), right, strict=True))
    ]
    return count_successes(verdicts)
