"""Page on fashion-dit: class accuracy of its samples of Fashion-MNIST."""

import os
from pathlib import Path

from harope.lab.evals.classification import class_scores
from harope.lab.recipes import get_recipe
from harope.lab.reporting.images import write_image_grid
from harope.lab.reporting.plots import plot_losses
from harope.lab.reporting.tables import score_rows
from harope.lab.sampling.class_folder import FolderPlan, read_folder, sample_folder, spread_labels
from harope.lab.sampling.runs import load_class_generator
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.serialization import override
from harope.lab.training.task import RunConfig
from scripts.results.page import COMMAND, PAGES, WORK, write_page


def write_fashion() -> None:
    """Write the page of fashion-dit: accuracy of a classifier of real images on its samples."""
    config, run = train_fashion()
    generator = load_class_generator(run)
    labels = spread_labels(1000, 10)
    assert labels is not None
    plan = FolderPlan(shape=(1, 28, 28), labels=labels, count=len(labels))
    samples = sample_folder(generator, plan, WORK / "fashion-samples")
    columns = class_scores(samples, epochs=4)
    _, images = read_folder(samples)
    shown = [images[100 * label + index] for label in range(10) for index in range(10)]
    write_image_grid(shown, PAGES / "fashion-grid.png", columns=10)
    metrics = read_metrics(run)
    plot_losses({"fashion-dit": metrics}, PAGES / "fashion-losses.png")
    last = metrics[-1]
    write_page(
        "fashion",
        "fashion-dit on Fashion-MNIST",
        f"Produced by `{COMMAND} fashion` with the data of Debian's `dataset-fashion-mnist`: "
        "HARoPE as in its first arXiv version (`harope-v1`), seed 0, "
        f"{last['step']:,} steps with batch size {config.batch_size}, {last['images']:,} images "
        f"({last['images'] / 60000:.1f} epochs), {last['seconds'] / 60:.0f} minutes of training on "
        f"a machine with {os.cpu_count()} CPU cores.",
        "A convolutional classifier, trained on the 60,000 real training images, predicts the "
        "classes of 1,000 samples (100 of each class, guidance "
        f"{generator.sampling.guidance}). The table compares its accuracy on the samples with that "
        "on the 10,000 real test images, with 95 % Wilson intervals. High accuracy shows that "
        "classes are distinct, not that samples are diverse.",
        score_rows(columns),
        "Ten samples of each class, one class per row: T-shirt, trouser, pullover, dress, coat, "
        "sandal, shirt, sneaker, bag, ankle boot.",
        "![samples](fashion-grid.png)",
        "![loss](fashion-losses.png)",
    )


def train_fashion() -> tuple[RunConfig, Path]:
    """Train fashion-dit, or reuse the finished run.

    Returns:
        Configuration and folder of the run.
    """
    config = override(
        get_recipe("fashion-dit").config(), {"encoding": "harope-v1", "log_every": 100}
    )
    train(config, WORK / "fashion-dit")
    return config, WORK / "fashion-dit"
