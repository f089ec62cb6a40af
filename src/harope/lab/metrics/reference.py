"""What samples are compared with: statistics of ADM or our own, images, or features."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from harope.lab.metrics.feature_set import (
    FeatureSet,
    Provenance,
    Statistics,
    load_feature_set,
    load_statistics,
)
from harope.lab.metrics.features import Extractor
from harope.lab.metrics.gaussian import Gaussian
from harope.lab.metrics.image_sets import ImageSet, open_images
from harope.lab.metrics.npz import IMAGES_KEY, NpzImages

_STATISTICS_METRICS = {"fid", "sfid"}


@dataclass
class Reference:
    """A reference as far as its file says; `measured` may be filled in later, from `images`."""

    source: str
    statistics: Statistics | None = None
    images: ImageSet | None = None
    measured: FeatureSet | None = None

    @property
    def count(self) -> int | None:
        """Images behind the features, where that is known."""
        if self.measured is not None:
            return self.measured.count
        if self.images is not None:
            return len(self.images)
        return None if self.statistics is None else self.statistics.gaussian.count

    @property
    def gaussian(self) -> Gaussian:
        """Mean and covariance: the file's own where it has them."""
        if self.statistics is not None:
            return self.statistics.gaussian
        return self._need_measured().moments.gaussian()

    @property
    def spatial(self) -> Gaussian:
        """Of spatial features. Raises ValueError where there are none."""
        if self.statistics is not None and self.statistics.spatial is not None:
            return self.statistics.spatial
        moments = None if self.measured is None else self.measured.spatial
        if moments is None:
            raise ValueError(f"{self.source} has no spatial features (mu_s, sigma_s) for sfid")
        return moments.gaussian()

    @property
    def features(self) -> Float32[np.ndarray, "images dim"]:
        """Features of each image. Raises ValueError where they were not kept."""
        features = self._need_measured().features
        if features is None:
            raise ValueError(f"{self.source} keeps no features of each image")
        return features

    def needs_features(self, metrics: Sequence[str]) -> bool:
        """Whether its images must pass the extractor for these metrics.

        Raises ValueError where they must, and there are none.
        """
        from_statistics = set() if self.statistics is None else _STATISTICS_METRICS
        if self.statistics is not None and self.statistics.spatial is None:
            from_statistics = from_statistics - {"sfid"}
        missing = [name for name in metrics if name not in from_statistics | {"is"}]
        if not missing or self.measured is not None:
            return False
        if self.images is None:
            raise ValueError(
                f"{self.source} holds statistics alone, but {', '.join(missing)} compare features "
                f"of single images: give images or an .npz with {IMAGES_KEY}"
            )
        return True

    def check(self, samples: ImageSet, extractor: Extractor) -> None:
        """Raise ValueError unless samples measured by this extractor may be compared with it."""
        self._check_extractor(extractor)
        size = self.images.size if self.images is not None else None
        for made in self._provenances():
            size = size or made.image_size
        if size is not None and size != samples.size:
            raise ValueError(
                f"{self.source} is of images of {size[0]} x {size[1]} pixels but {samples.source} "
                f"of {samples.size[0]} x {samples.size[1]}: take the reference of that resolution"
            )

    def _check_extractor(self, extractor: Extractor) -> None:
        for made in self._provenances():
            for field in ("name", "weights", "resize"):
                theirs = getattr(made, "extractor" if field == "name" else field)
                mine = getattr(extractor, field)
                if mine != theirs:
                    what = "extractor" if field == "name" else field
                    raise ValueError(
                        f"{self.source} was made with {what} {theirs!r} but the samples' is "
                        f"{mine!r}: measure both alike"
                    )
        if self.statistics is None:
            return
        if self.statistics.provenance is None and extractor.name != "inception":
            raise ValueError(
                f"{self.source} does not say what made it, as ADM's statistics of Inception's "
                f"features: {extractor.name} cannot be compared with it"
            )
        dim = self.statistics.gaussian.mean.shape[0]
        if dim != extractor.features_dim:
            raise ValueError(
                f"{self.source} has {dim} features but {extractor.label} "
                f"{extractor.features_dim}: take a reference of this extractor"
            )

    def _provenances(self) -> list[Provenance]:
        from_file = None if self.statistics is None else self.statistics.provenance
        measured = None if self.measured is None else self.measured.provenance
        return [made for made in (from_file, measured) if made is not None]

    def _need_measured(self) -> FeatureSet:
        if self.measured is None:
            raise ValueError(f"{self.source} is not measured yet: call `measure` on its images")
        return self.measured


def open_reference(path: str | Path, *, max_unreadable: float = 0.0) -> Reference:
    """Open a folder of images, an `.npz` of statistics or images or both, or our `.safetensors`.

    Statistics are read and checked; images are not measured. Raises ValueError for anything else.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        return Reference(str(path), measured=load_feature_set(path))
    if not path.is_file():
        return Reference(str(path), images=open_images(path, max_unreadable=max_unreadable))
    members = _members(path)
    if not {"mu", "sigma"} <= members:
        return Reference(str(path), images=NpzImages(path))
    images = NpzImages(path) if IMAGES_KEY in members else None
    return Reference(str(path), load_statistics(path), images)


def _members(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is no .npz file ({error}): name one, or a folder of images"
        ) from error
