"""Peak memory of distances between 50,000 images of 256 pixels and a reference of 10,000.

Inception itself takes an hour for them on a CPU. So its network, with random weights, runs on the
first batches, and what follows are random features of the same shapes: memory is that of the
command, the numbers mean nothing.
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

COUNT, REFERENCE, SIZE, DISTINCT, BATCH = 50_000, 10_000, 256, 100, 64
REAL_BATCHES = 3
SOURCES: dict[str, tuple[Metric, ...]] = {
    "folder": ("fid", "sfid", "kid", "is", "pr"),
    # Precision and recall take most of the time, and the same memory from any source.
    "npz": ("fid", "sfid", "kid", "is"),
}

Rows = list[tuple[str, ...]]


def memory_rows(work: Path) -> Rows:
    """Peak resident memory per source of images, each measured in a process of its own."""
    work.mkdir(parents=True, exist_ok=True)
    rows: Rows = [("images", "features", "metrics", "peak memory, GiB", "goal")]
    for source, metrics in SOURCES.items():
        kept = "in memory" if source == "folder" else "kept in files"
        command = [sys.executable, __file__, source, str(work)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peak = float(done.stdout.splitlines()[-1])
        rows.append((f"{COUNT:,} from a {source}", kept, ", ".join(metrics), f"{peak:.2f}", "<= 4"))
    return rows


class BrieflyInception:
    """Inception on the first batches, then random features of its shapes."""

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
    """A file of torch-fidelity's Inception, freshly drawn."""
    loaded = port.load_state_dict_from_url, FeatureExtractorInceptionV3.load_state_dict
    port.load_state_dict_from_url = lambda *args, **kwargs: {}
    FeatureExtractorInceptionV3.load_state_dict = lambda *args: None
    try:
        torch.save(FeatureExtractorInceptionV3("any", ["2048"]).state_dict(), path)
    finally:
        port.load_state_dict_from_url, FeatureExtractorInceptionV3.load_state_dict = loaded
    return path


def make_folder(folder: Path, count: int) -> Path:
    """So many names of a few pictures, by hard links."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index:06d}.png"
        if index < DISTINCT:
            coarse = draws.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(coarse).resize((SIZE, SIZE)).save(path)
        else:
            os.link(folder / f"{index % DISTINCT:06d}.png", path)
    return folder


def make_npz(path: Path, count: int) -> Path:
    """9.8 GB of the same flat pictures, as ADM's evaluation reads them."""
    batch = np.zeros((1000, SIZE, SIZE, 3), np.uint8)
    return write_npz(path, (batch for _ in range(count // len(batch))), count)


def compare(source: str, folder: Path) -> None:
    """What `harope evaluate distances` does, with that extractor."""
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
        for images, name in ((reference.images, "kept-reference"), (samples, "kept-samples")):
            compute_features_in_folder(images, extractor, folder / name, batch_size=BATCH)
        reference.feature_set = merge_shards(folder / "kept-reference")
        measured = merge_shards(folder / "kept-samples")
    compute_metrics(config, measured, reference, extractor)


if __name__ == "__main__":
    with TemporaryDirectory(dir=sys.argv[2]) as made:
        compare(sys.argv[1], Path(made))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
