"""Distances between sets of Fashion-MNIST: how far real pictures are from real ones, and others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from harope.lab.data.dataset import FiniteSource
from harope.lab.data.labelled.idx import IdxData, Split
from harope.lab.data.png import save_grid, to_uint8
from harope.lab.data.registry import open_source
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
from harope.lab.sampling.runs import load_generator

REFERENCE, COMPARED = 10_000, 3_000
"""Pictures of the reference, and of each set that is compared with it."""
SIGMAS = (8, 24, 64)
"""Of Gaussian noise, in steps of 256."""
METRICS: tuple[Metric, ...] = ("fid", "pr", "dc")

Rows = list[tuple[str, ...]]


def distances_page(run: Path, work: Path, pages: Path) -> list[str | Rows]:
    """Paragraphs and a table; what is made of each set is kept in `work`."""
    rows = _rows(run, work)
    _draw_examples(work, pages / "distances.png")
    return [
        f"The numbers are those of `harope evaluate distances --extractor lite0 --metrics "
        f"{','.join(METRICS)}`. The reference: {REFERENCE:,} pictures of the first half of the "
        f"training images. Features: {Lite0.features_dim:,} of EfficientNet-Lite0, trained on "
        "ImageNet, of pictures enlarged from 28 to 64 pixels. FD-Lite0 is a Fréchet distance of "
        "these features and comparable with no FID of Inception's. Precision and recall: k = 3; "
        "density and coverage: k = 5.",
        rows,
        "Real pictures against real ones are the floor: no generator can be told from the data "
        "below it. It falls with the number of pictures, so a distance means something beside the "
        "floor of as many pictures alone. Noise is Gaussian, its deviation in steps of 256. "
        "`fashion-dit` was trained on both halves of the training images, once, with seed 0.",
        "![pictures of every set](distances.png)",
        "Rows: the other half of the training images; test images; the same with noise of "
        f"{', '.join(map(str, SIGMAS))}; samples of fashion-dit.",
    ]


def _rows(run: Path, work: Path) -> Rows:
    extractor = Lite0()
    train, test = _pictures("train"), _pictures("test")
    half = len(train) // 2
    sets = {
        "half-a": _stored(work / "half-a.npz", train[:half][:REFERENCE]),
        "half-b": _stored(work / "half-b.npz", train[half:][:REFERENCE]),
        "test": _stored(work / "test.npz", test[:COMPARED]),
        **{f"noise-{s}": _stored(work / f"noise-{s}.npz", _noised(test, s)) for s in SIGMAS},
        "samples": _drawn(run, work / "samples"),
    }
    found = {
        name: _measured(path, extractor, work / "features" / name) for name, path in sets.items()
    }
    reference = Reference("half-a", feature_set=found["half-a"])
    compared = {
        f"the other half of the training images, {REFERENCE:,}": found["half-b"],
        f"the other half of the training images, {COMPARED:,}": _first(found["half-b"], COMPARED),
        "test images": found["test"],
        **{f"test images, noise of {s}": found[f"noise-{s}"] for s in SIGMAS},
        "samples of fashion-dit": found["samples"],
    }
    rows: Rows = []
    for name, measured in compared.items():
        scores = compute_metrics(DistanceConfig(metrics=METRICS), measured, reference, extractor)
        rows = rows or [("set", "images", *(one.name for one in scores))]
        rows.append((name, f"{measured.count:,}", *(f"{one.value:.4g}" for one in scores)))
    return rows


def _pictures(split: Split) -> np.ndarray:
    """(images, 28, 28, 3) in bytes."""
    data = fashion_dit().data
    assert isinstance(data, IdxData)
    source = open_source(replace(data, split=split), seed=0)
    assert isinstance(source, FiniteSource)
    images, _ = source.items(range(len(source)))
    return to_uint8(images).numpy()


def _noised(pictures: np.ndarray, sigma: int) -> np.ndarray:
    """The same noise in all three channels: grey pictures stay grey."""
    some = pictures[:COMPARED].astype(np.float64)
    noise = np.random.default_rng(sigma).normal(0, sigma, some[..., :1].shape)
    return (some + noise).round().clip(0, 255).astype(np.uint8)


def _stored(path: Path, pictures: np.ndarray) -> Path:
    """The pictures as ADM's evaluation reads them."""
    if not path.exists():
        write_npz(path, iter([pictures]), len(pictures))
    return path


def _drawn(run: Path, out: Path) -> Path:
    generator = load_generator(run)
    plan = FolderPlan(shape=(1, 28, 28), labels=spread_labels(COMPARED, 10), count=COMPARED)
    return sample_folder(generator, plan, out)


def _measured(images: Path, extractor: Extractor, folder: Path) -> FeatureSet:
    compute_features_in_folder(open_images(images), extractor, folder, quiet=False)
    return merge_shards(folder)


def _first(measured: FeatureSet, count: int) -> FeatureSet:
    features = measured.features
    assert features is not None
    return FeatureSet(measured.provenance, Moments.of(features[:count]), features=features[:count])


def _draw_examples(work: Path, out: Path) -> None:
    """A row of pictures of each set."""
    rows = []
    for name in ("half-b", "test", *(f"noise-{sigma}" for sigma in SIGMAS)):
        rows.append(next(open_images(work / f"{name}.npz").batches(16)))
    # Samples come in order of their classes.
    paths = [work / "samples" / f"{COMPARED // 16 * place:06d}.png" for place in range(16)]
    drawn = (read_images(paths) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    shown = torch.from_numpy(np.concatenate([*rows, drawn])).permute(0, 3, 1, 2)
    save_grid(shown.float() / 127.5 - 1, out, columns=16)
