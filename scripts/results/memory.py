"""Page on the peak memory of distances from 50,000 images of 256 pixels to a reference of 10,000.

Inception would take an hour for these images on a CPU. Therefore its network, with random weights,
only runs on the first batches, and the other features are random numbers of the same shapes. The
memory is that of the real command; the distances are meaningless.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch_fidelity import FeatureExtractorInceptionV3
from torch_fidelity import feature_extractor_inceptionv3 as port

from harope.lab.metrics.compute import compute_features, compute_features_in_folder, merge_shards
from harope.lab.metrics.distances import DistanceConfig, Metric, check_request, compute_metrics
from harope.lab.metrics.extractors.inception import Inception
from harope.lab.metrics.features import Features
from harope.lab.metrics.image_sets import open_images
from harope.lab.metrics.npz import write_npz
from harope.lab.metrics.reference import open_reference
from scripts.results.page import COMMAND, WORK, Rows, write_page

COUNT, REFERENCE, SIZE, DISTINCT, BATCH = 50_000, 10_000, 256, 100, 64
REAL_BATCHES = 3
SOURCES: dict[str, tuple[Metric, ...]] = {
    "folder": ("fid", "sfid", "kid", "is", "pr"),
    # Precision and recall take most of the time, and the same memory from any source.
    "npz": ("fid", "sfid", "kid", "is"),
}


def write_memory() -> None:
    """Measure the peak memory of every source of images, and write the page."""
    write_page(
        "memory",
        "Memory of distances",
        f"Produced by `{COMMAND} memory`: peak resident memory of a process that compares 50,000 "
        "images of 256 pixels with a reference of 10,000 on the CPU, with batch size 64. To save "
        "an hour, Inception's network, with random weights, only sees the first batches; the "
        "features of the others are random numbers of the same shapes. Everything else is what "
        "`harope evaluate distances` does.",
        memory_rows(WORK / "memory"),
    )


def memory_rows(work: Path) -> Rows:
    """Measure the peak memory for each source of images, in a process of its own.

    Args:
        work: Folder for temporary images and features.

    Returns:
        Header and one row per source.
    """
    work.mkdir(parents=True, exist_ok=True)
    rows: Rows = [("images", "features", "metrics", "peak memory, GiB", "target")]
    for source, metrics in SOURCES.items():
        storage = "in memory" if source == "folder" else "in files"
        command = [sys.executable, "-m", "scripts.results.memory", source, str(work)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peak = f"{float(done.stdout.splitlines()[-1]):.2f}"
        rows.append((f"{COUNT:,} from a {source}", storage, ", ".join(metrics), peak, "<= 4"))
    return rows


class BrieflyInception:
    """Inception on the first batches, and random features of the same shapes afterwards."""

    name, display_name, features_dim, resize = "inception", "Inception", 2048, Inception.resize
    has_logits = has_spatial = True

    def __init__(self, weights: Path) -> None:
        self._network = Inception(weights)
        self.weights = self._network.weights
        self._left = REAL_BATCHES
        self._draws = torch.Generator().manual_seed(0)

    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        """Features of RGB images."""
        if self._left:
            self._left -= 1
            self._shapes = self._network(images)
            return self._shapes
        parts = (torch.randn(len(images), part.shape[1], generator=self._draws)
                 for part in self._shapes if part is not None)  # fmt: skip
        return Features(*parts)


def random_weights(path: Path) -> Path:
    """Write random weights of torch-fidelity's Inception.

    Args:
        path: File to write.

    Returns:
        The path.
    """
    loaded = port.load_state_dict_from_url, FeatureExtractorInceptionV3.load_state_dict
    port.load_state_dict_from_url = lambda *args, **kwargs: {}
    FeatureExtractorInceptionV3.load_state_dict = lambda *args: None
    try:
        torch.save(FeatureExtractorInceptionV3("any", ["2048"]).state_dict(), path)
    finally:
        port.load_state_dict_from_url, FeatureExtractorInceptionV3.load_state_dict = loaded
    return path


def make_folder(folder: Path, count: int) -> Path:
    """Write a folder of `count` images: `DISTINCT` different ones, and hard links to them.

    Args:
        folder: Folder to write to.
        count: Number of images.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index:06d}.png"
        if index < DISTINCT:
            coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(coarse).resize((SIZE, SIZE)).save(path)
        else:
            os.link(folder / f"{index % DISTINCT:06d}.png", path)
    return folder


def make_npz(path: Path, count: int) -> Path:
    """Write `count` uniform images in the format of ADM's evaluator (9.8 GB for 50,000).

    Args:
        path: File to write.
        count: Number of images.

    Returns:
        The path.
    """
    batch = np.zeros((1000, SIZE, SIZE, 3), np.uint8)
    return write_npz(path, (batch for _ in range(count // len(batch))), count)


def compare(source: str, folder: Path) -> None:
    """Compute distances as `harope evaluate distances` does, with `BrieflyInception`.

    Args:
        source: Key of `SOURCES`.
        folder: Folder for images and features.
    """
    extractor = BrieflyInception(random_weights(folder / "weights.pth"))
    make = make_folder if source == "folder" else make_npz
    suffix = "" if source == "folder" else ".npz"
    samples = open_images(make(folder / f"samples{suffix}", COUNT))
    reference = open_reference(make_folder(folder / "reference", REFERENCE))
    config = DistanceConfig(metrics=SOURCES[source])
    check_request(config, samples, reference, extractor)
    assert reference.images is not None
    if source == "folder":
        reference.feature_set = compute_features(reference.images, extractor, batch_size=BATCH)
        measured = compute_features(samples, extractor, batch_size=BATCH)
    else:
        for images, name in (
            (reference.images, "reference-features"),
            (samples, "samples-features"),
        ):
            compute_features_in_folder(images, extractor, folder / name, batch_size=BATCH)
        reference.feature_set = merge_shards(folder / "reference-features")
        measured = merge_shards(folder / "samples-features")
    compute_metrics(config, measured, reference, extractor)


if __name__ == "__main__":
    with TemporaryDirectory(dir=sys.argv[2]) as temporary:
        compare(sys.argv[1], Path(temporary))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
