"""References that samples are compared with: statistics, images or feature sets."""

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
    """A reference, as read from a file or folder.

    If `needs_features` says so, the caller must compute `feature_set` from `images` first.
    """

    source: str
    """File or folder, as given by the user."""
    statistics: Statistics | None = None
    """Mean and covariance, if the file has them."""
    images: ImageSet | None = None
    """The images, if there are any."""
    feature_set: FeatureSet | None = None
    """Features of the images, from a file or computed later."""

    @property
    def count(self) -> int | None:
        """Number of images behind the features; None if unknown."""
        if self.feature_set is not None:
            return self.feature_set.count
        if self.images is not None:
            return len(self.images)
        return None if self.statistics is None else self.statistics.gaussian.count

    @property
    def gaussian(self) -> Gaussian:
        """Mean and covariance of the features, from the statistics if there are any."""
        if self.statistics is not None:
            return self.statistics.gaussian
        return self._require_features().moments.gaussian()

    @property
    def spatial(self) -> Gaussian:
        """Mean and covariance of the spatial features.

        Raises:
            ValueError: If there are none.
        """
        if self.statistics is not None and self.statistics.spatial is not None:
            return self.statistics.spatial
        moments = None if self.feature_set is None else self.feature_set.spatial
        if moments is None:
            raise ValueError(
                f"{self.source} has no spatial features (mu_s, sigma_s): remove sfid from metrics "
                f"or use a reference that has them"
            )
        return moments.gaussian()

    @property
    def features(self) -> Float32[np.ndarray, "images dim"]:
        """Features of each image.

        Raises:
            ValueError: If only their moments are known.
        """
        features = self._require_features().features
        if features is None:
            raise ValueError(
                f"{self.source} has no features of single images: compute it with "
                f"keep_features=True"
            )
        return features

    def needs_features(self, metrics: Sequence[str]) -> bool:
        """Tell whether the features of the images must be computed for these metrics.

        Args:
            metrics: Names of metrics, see `DistanceConfig`.

        Returns:
            Whether the caller must set `feature_set` before the metrics are computed.

        Raises:
            ValueError: If they must be computed but there are no images.
        """
        from_statistics = set() if self.statistics is None else _STATISTICS_METRICS
        if self.statistics is not None and self.statistics.spatial is None:
            from_statistics = from_statistics - {"sfid"}
        missing = [name for name in metrics if name not in from_statistics | {"is"}]
        if not missing or self.feature_set is not None:
            return False
        if self.images is None:
            raise ValueError(
                f"{self.source} holds statistics only, but {', '.join(missing)} compare features "
                f"of single images: pass images or an .npz with {IMAGES_KEY}"
            )
        return True

    def check(self, samples: ImageSet, extractor: Extractor) -> None:
        """Check that samples may be compared with this reference.

        Args:
            samples: Images to compare.
            extractor: Network that will compute their features.

        Raises:
            ValueError: If extractor, weights, resize or image size differ from the reference's.
        """
        self._check_extractor(extractor)
        size = self.images.size if self.images is not None else None
        for provenance in self._provenances():
            size = size or provenance.image_size
        if size is not None and size != samples.size:
            raise ValueError(
                f"{self.source} has images of {size[0]} x {size[1]} pixels but {samples.source} "
                f"of {samples.size[0]} x {samples.size[1]}: use a reference of that resolution"
            )

    def _check_extractor(self, extractor: Extractor) -> None:
        for provenance in self._provenances():
            for field, expected, actual in (
                ("extractor", provenance.extractor, extractor.name),
                ("weights", provenance.weights, extractor.weights),
                ("resize", provenance.resize, extractor.resize),
            ):
                if actual != expected:
                    raise ValueError(
                        f"{self.source} was computed with {field} {expected!r} but the samples "
                        f"with {actual!r}: use one extractor for both"
                    )
        if self.statistics is None:
            return
        if self.statistics.provenance is None and extractor.name != "inception":
            raise ValueError(
                f"{self.source} does not name its extractor, as ADM's statistics of Inception "
                f"features: it cannot be compared with features of {extractor.name}"
            )
        dim = self.statistics.gaussian.mean.shape[0]
        if dim != extractor.features_dim:
            raise ValueError(
                f"{self.source} has {dim} features but {extractor.display_name} "
                f"{extractor.features_dim}: use a reference of this extractor"
            )

    def _provenances(self) -> list[Provenance]:
        sources = (self.statistics, self.feature_set)
        candidates = [source.provenance for source in sources if source is not None]
        return [provenance for provenance in candidates if provenance is not None]

    def _require_features(self) -> FeatureSet:
        if self.feature_set is None:
            raise ValueError(
                f"{self.source} has no features yet: set feature_set to `compute_features` of its "
                f"images"
            )
        return self.feature_set


def open_reference(path: str | Path, *, max_unreadable: float = 0.0) -> Reference:
    """Open a reference; the features of images are not computed yet.

    Args:
        path: A folder of images, an `.npz` with statistics, images or both, or a `.safetensors` of
            `save_feature_set`.
        max_unreadable: Fraction of a folder's files that may be damaged, in [0, 1).

    Returns:
        The reference.

    Raises:
        ValueError: If the path is none of these, or damaged.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        return Reference(str(path), feature_set=load_feature_set(path))
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
            f"{path} is not an .npz file ({error}): pass one, or a folder of images"
        ) from error
