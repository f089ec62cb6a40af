"""Page on distances of Fashion-MNIST: of real, noisy and generated images from real ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from harope.lab.data.dataset import FiniteLabelledDataset
from harope.lab.data.image_io import save_grid, to_uint8
from harope.lab.data.labelled.idx import IdxDataConfig, Split
from harope.lab.data.registry import open_dataset
from harope.lab.metrics.compute import compute_features_in_folder, merge_shards
from harope.lab.metrics.distances import DistanceConfig, Metric, compute_metrics
from harope.lab.metrics.extractors.lite0 import Lite0
from harope.lab.metrics.feature_set import FeatureSet
from harope.lab.metrics.features import Extractor
from harope.lab.metrics.gaussian import Moments
from harope.lab.metrics.image_sets import open_images
from harope.lab.metrics.npz import write_npz
from harope.lab.metrics.reference import Reference
from harope.lab.recipes.fashion import fashion_dit
from harope.lab.reporting.images import read_images
from harope.lab.sampling.class_folder import FolderPlan, sample_folder, spread_labels
from harope.lab.sampling.runs import load_class_generator
from scripts.results.fashion import train_fashion
from scripts.results.page import COMMAND, PAGES, WORK, Rows, write_page

REFERENCE, COMPARED = 10_000, 3_000
"""Number of images of the reference, and of each set that is compared with it."""
SIGMAS = (8, 24, 64)
"""Standard deviations of Gaussian noise on values from 0 to 255."""
METRICS: tuple[Metric, ...] = ("fid", "pr", "dc")


def write_distances() -> None:
    """Train or reuse the runs, and write the page with its plots to docs/results."""
    _, run = train_fashion()
    write_page(
        "distances",
        "Distances on Fashion-MNIST, and their floor",
        f"Produced by `{COMMAND} distances` with the data of Debian's `dataset-fashion-mnist`.",
        *distances_page(run, WORK / "fashion-distances", PAGES),
    )


def distances_page(run: Path, work: Path, pages: Path) -> list[str | Rows]:
    """Compute the distances of all sets, and write a grid of examples.

    Args:
        run: Run folder of fashion-dit.
        work: Folder in which images and features of the sets are cached.
        pages: Folder of the grid.

    Returns:
        Paragraphs and the table of the page.
    """
    rows = _rows(run, work)
    _write_examples(work, pages / "distances.png")
    return [
        f"The numbers are those of `harope evaluate distances --extractor lite0 --metrics "
        f"{','.join(METRICS)} ...`. Reference: {REFERENCE:,} images of the first half of the "
        f"training images. Features: {Lite0.features_dim:,} channels of EfficientNet-Lite0, "
        "trained on ImageNet, of the images enlarged from 28 to 64 pixels. FD-Lite0 is the Fréchet "
        "distance of these features; it is not comparable with the FID, which uses Inception. "
        "Precision and recall: k = 3; density and coverage: k = 5.",
        rows,
        "The distance between two sets of real images is the floor: a generator with a smaller "
        "distance cannot be distinguished from the data. The floor decreases with the number of "
        "images, so a distance must be compared with the floor of the same number. Noise is "
        "Gaussian; its standard deviation refers to values from 0 to 255. `fashion-dit` was "
        "trained once, with `harope-v1` and seed 0, on both halves of the training images.",
        "![images of every set](distances.png)",
        "Rows: other half of the training images; test images; test images with noise of "
        f"{', '.join(map(str, SIGMAS))}; samples of fashion-dit.",
    ]


def _rows(run: Path, work: Path) -> Rows:
    extractor = Lite0()
    train, test = _images("train"), _images("test")
    half = len(train) // 2
    sets = {
        "half-a": _store(work / "half-a.npz", train[:half][:REFERENCE]),
        "half-b": _store(work / "half-b.npz", train[half:][:REFERENCE]),
        "test": _store(work / "test.npz", test[:COMPARED]),
        **{f"noise-{s}": _store(work / f"noise-{s}.npz", _add_noise(test, s)) for s in SIGMAS},
        "samples": _sample(run, work / "samples"),
    }
    features = {
        name: _measured(path, extractor, work / "features" / name) for name, path in sets.items()
    }
    reference = Reference("half-a", feature_set=features["half-a"])
    compared = {
        f"the other half of the training images, {REFERENCE:,}": features["half-b"],
        f"the other half of the training images, {COMPARED:,}": _first(
            features["half-b"], COMPARED
        ),
        "test images": features["test"],
        **{f"test images, noise of {s}": features[f"noise-{s}"] for s in SIGMAS},
        "samples of fashion-dit": features["samples"],
    }
    rows: Rows = []
    for name, measured in compared.items():
        scores = compute_metrics(DistanceConfig(metrics=METRICS), measured, reference, extractor)
        rows = rows or [("set", "images", *(item.name for item in scores))]
        rows.append((name, f"{measured.count:,}", *(f"{item.value:.4g}" for item in scores)))
    return rows


def _images(split: Split) -> np.ndarray:
    """Return the images of a split, uint8 of shape (images, 28, 28, 3)."""
    data = fashion_dit().data
    assert isinstance(data, IdxDataConfig)
    source = open_dataset(replace(data, split=split), seed=0)
    assert isinstance(source, FiniteLabelledDataset)
    images, _ = source.items(range(len(source)))
    return to_uint8(images).numpy()


def _add_noise(images: np.ndarray, sigma: int) -> np.ndarray:
    """Add noise that is equal in all three channels, so that grey images stay grey."""
    some = images[:COMPARED].astype(np.float64)
    noise = np.random.default_rng(sigma).normal(0, sigma, some[..., :1].shape)
    return (some + noise).round().clip(0, 255).astype(np.uint8)


def _store(path: Path, images: np.ndarray) -> Path:
    """Write images in the format of ADM's evaluator, unless the file exists."""
    if not path.exists():
        write_npz(path, iter([images]), len(images))
    return path


def _sample(run: Path, out: Path) -> Path:
    generator = load_class_generator(run)
    plan = FolderPlan(shape=(1, 28, 28), labels=spread_labels(COMPARED, 10), count=COMPARED)
    return sample_folder(generator, plan, out)


def _measured(images: Path, extractor: Extractor, folder: Path) -> FeatureSet:
    compute_features_in_folder(open_images(images), extractor, folder, quiet=False)
    return merge_shards(folder)


def _first(measured: FeatureSet, count: int) -> FeatureSet:
    features = measured.features
    assert features is not None
    return FeatureSet(measured.provenance, Moments.of(features[:count]), features=features[:count])


def _write_examples(work: Path, out: Path) -> None:
    """Write a grid with a row of images of each set."""
    rows = []
    for name in ("half-b", "test", *(f"noise-{sigma}" for sigma in SIGMAS)):
        rows.append(next(open_images(work / f"{name}.npz").batches(16)))
    # Samples are ordered by class; take them evenly spaced.
    paths = [work / "samples" / f"{COMPARED // 16 * index:06d}.png" for index in range(16)]
    samples = (read_images(paths) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    shown = torch.from_numpy(np.concatenate([*rows, samples])).permute(0, 3, 1, 2)
    save_grid(shown.float() / 127.5 - 1, out, columns=16)
