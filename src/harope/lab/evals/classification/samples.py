"""Class accuracy of samples by a classifier of the real images."""

from pathlib import Path

import torch
from torch import Tensor

from harope.lab.data.dataset import FiniteLabelledDataset
from harope.lab.data.registry import open_dataset
from harope.lab.evals.classification.classifier import predict, train_classifier
from harope.lab.evals.scenes.scores import tally
from harope.lab.metrics.intervals import Proportion, Scores
from harope.lab.reporting.images import read_pictures
from harope.lab.sampling.class_folder import read_folder
from harope.lab.training.config import TrainConfig
from harope.lab.training.serialization import from_json


def class_scores(folder: Path, epochs: int) -> dict[str, Scores]:
    """Accuracy on samples per class and in all, and the classifier's own on held-out images.

    The classifier learns the training images of the samples' run; held-out images are the data's
    test split. Raises ValueError when the folder does not say what its model was trained on.
    """
    manifest, pictures = read_folder(folder)
    if manifest["train"] is None or "split" not in manifest["train"]["data"]:
        raise ValueError(
            f"{folder} holds no samples of a model trained on data with a test split: "
            f"score samples of fashion-dit"
        )
    train, test = (_images(manifest["train"], split) for split in ("train", "test"))
    num_classes = manifest["model"]["num_classes"]
    model = train_classifier(*train, num_classes=num_classes, epochs=epochs)
    samples = read_pictures(pictures).mean(dim=1, keepdim=True) * 2 - 1
    return {
        "samples": _accuracy(predict(model, samples), torch.tensor(manifest["labels"])),
        "real test images": _accuracy(predict(model, test[0]), test[1]),
    }


def _images(train: dict[str, object], split: str) -> tuple[Tensor, Tensor]:
    # A plain dict read from JSON: the type of its values is unknown.
    config = from_json(train | {"data": {**train["data"], "split": split}})  # type: ignore[dict-item]
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
    return tally(verdicts)
