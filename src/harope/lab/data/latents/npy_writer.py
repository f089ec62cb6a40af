"""Writing latents to a pair of `.npy` files, a format that other programs read too."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from harope._utils.atomic import atomic_path
from harope.lab.data.latents.manifest import LatentWriter, Manifest, resume_manifest

ENCODING_FILE = "encoding.json"
_UNWRITTEN = -1


class LatentPairWriter(LatentWriter):
    """Resumable writer of `features.npy` (total, c, h, w) and `labels.npy` (total,).

    `labels.npy` appears once all latents are written. `encoding.json` stores the manifest.

    Args:
        folder: Folder to write to.
        manifest: Description of the complete set of latents.

    Raises:
        ValueError: If the folder contains latents with a different description.
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
        # A label is written after its latent, so a written label implies a written latent.
        self._written = int((self._labels != _UNWRITTEN).sum())

    @property
    def ranges(self) -> list[range]:
        return [range(self._written, len(self._labels))]

    def add(
        self,
        features: Float[Tensor, "batch channels height width"],
        labels: Int64[Tensor, "batch"],
    ) -> None:
        rows = slice(self._written, self._written + len(labels))
        self._features[rows] = features.cpu().numpy()
        self._features.flush()
        self._labels[rows] = labels.cpu().numpy()
        self._labels.flush()
        self._written = rows.stop

    def finish(self) -> None:
        if self._written == len(self._labels) and not self._labels_path.exists():
            os.replace(self._beside, self._labels_path)

    def _allocate(self, manifest: Manifest) -> None:
        np.lib.format.open_memmap(
            self._folder / "features.npy",
            mode="w+",
            dtype=manifest.dtype,
            shape=(manifest.total, *manifest.shape),
        ).flush()
        # Renamed once filled: a file of zeros would look like written labels.
        with atomic_path(self._beside) as temporary, temporary.open("wb") as file:
            np.save(file, np.full(manifest.total, _UNWRITTEN, dtype=np.int64))
