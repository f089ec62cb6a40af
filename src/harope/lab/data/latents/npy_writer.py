"""Writing latents as the pair of .npy files that other programs of the field read."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from harope._utils.atomic import atomic_path
from harope.lab.data.latents.manifest import Manifest, resume_manifest

ENCODING_FILE = "encoding.json"
_UNWRITTEN = -1


class LatentPairWriter:
    """Writes ``features.npy`` (total, c, h, w) and ``labels.npy`` (total,), and resumes.

    ``labels.npy`` appears when all latents are there; ``encoding.json`` keeps ``manifest``.
    ``written`` counts the latents that are safe on disk: begin with the one of that number.
    Raises ValueError where the folder holds latents of another description.
    """

    def __init__(self, folder: str | Path, manifest: Manifest):
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        resume_manifest(self._folder, manifest, ENCODING_FILE).save(self._folder, ENCODING_FILE)
        self._labels_path = self._folder / "labels.npy"
        self._beside = self._folder / ".labels.npy.partial"
        if not (self._labels_path.exists() or self._beside.exists()):
            self._allocate(manifest)
        current = self._labels_path if self._labels_path.exists() else self._beside
        self._labels = np.load(current, mmap_mode="r+")
        self._features = np.load(self._folder / "features.npy", mmap_mode="r+")
        # A label is written after its latent, so it vouches for it.
        self.written = int((self._labels != _UNWRITTEN).sum())

    def add(
        self,
        features: Float[Tensor, "batch channels height width"],
        labels: Int64[Tensor, "batch"],
    ) -> None:
        """Write the next latents; after the last ones the labels get their final name."""
        rows = slice(self.written, self.written + len(labels))
        self._features[rows] = features.cpu().numpy()
        self._features.flush()
        self._labels[rows] = labels.cpu().numpy()
        self._labels.flush()
        self.written = rows.stop
        if self.written == len(self._labels):
            os.replace(self._beside, self._labels_path)

    def _allocate(self, manifest: Manifest) -> None:
        np.lib.format.open_memmap(
            self._folder / "features.npy",
            mode="w+",
            dtype=manifest.dtype,
            shape=(manifest.total, *manifest.shape),
        ).flush()
        # Renamed once full: a file of zeros would read as labels that are written.
        with atomic_path(self._beside) as temporary, temporary.open("wb") as file:
            np.save(file, np.full(manifest.total, _UNWRITTEN, dtype=np.int64))
