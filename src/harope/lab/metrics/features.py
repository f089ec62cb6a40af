"""Interface of feature extractors, and how to load them."""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

ExtractorName: TypeAlias = Literal["inception", "dinov2", "lite0"]


class Features(NamedTuple):
    """Output of an extractor for a batch of images."""

    features: Float32[Tensor, "batch dim"]
    """Features that the distances compare."""
    logits: Float32[Tensor, "batch classes"] | None = None
    """Class logits for the Inception Score; those of Inception are without bias."""
    spatial: Float32[Tensor, "batch spatial"] | None = None
    """Flattened feature map for sFID."""


@runtime_checkable
class Extractor(Protocol):
    """A network that computes features of images, including its preprocessing."""

    name: str
    """Identifier, as on the command line."""
    display_name: str
    """Name in tables: a distance is called FD-`display_name`."""
    features_dim: int
    """Number of features."""
    resize: str
    """Description of how images are resized to the network's input size."""
    weights: str
    """Digest of the weights."""
    has_logits: bool
    """Whether it computes logits."""
    has_spatial: bool
    """Whether it computes spatial features."""

    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        """Compute the features of RGB images of any size."""
        ...


class FunctionExtractor:
    """An extractor made from any function of images.

    Args:
        function: Maps images to features.
        name: Name of the extractor, also in tables.
        features_dim: Number of features.
        resize: Description of how images are resized.
        weights: Digest of the weights, if the function has any.
    """

    has_logits = has_spatial = False

    def __init__(
        self,
        function: Callable[[UInt8[Tensor, "batch height width 3"]], Float[Tensor, "batch dim"]],
        *,
        name: str,
        features_dim: int,
        resize: str = "none",
        weights: str = "",
    ):
        self.name = self.display_name = name
        self.features_dim, self.resize, self.weights = features_dim, resize, weights
        self._function = function

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        """Compute the features of images. Raise ValueError if their shape is wrong."""
        features = self._function(images).float()
        if features.shape != (len(images), self.features_dim):
            raise ValueError(
                f"{self.name} gave {tuple(features.shape)} for {len(images)} images: features must "
                f"be (batch, {self.features_dim})"
            )
        return Features(features)


def load_extractor(
    name: ExtractorName, weights: str | None = None, device: torch.device | str = "cpu"
) -> Extractor:
    """Load an extractor.

    Args:
        name: "inception", "dinov2" or "lite0".
        weights: For "inception" torch-fidelity's weights file, by default downloaded; for "dinov2"
            a folder or hub id, by default facebook/dinov2-large; for "lite0" None, since its
            package contains the weights.
        device: Device to run it on.

    Returns:
        The extractor in eval mode.

    Raises:
        ValueError: If the weights are not those of the extractor.
    """
    if name == "inception":
        from harope.lab.metrics.extractors.inception import Inception

        return Inception(weights, device)
    if name == "dinov2":
        from harope.lab.metrics.extractors.dinov2 import DINOv2

        return DINOv2(weights or DINOv2.DEFAULT, device)
    if weights is not None:
        raise ValueError(f"lite0 has the weights of its package: do not pass {weights!r}")
    from harope.lab.metrics.extractors.lite0 import Lite0

    return Lite0(device)


def channels_first(
    images: UInt8[Tensor, "batch height width 3"], device: torch.device | str
) -> UInt8[Tensor, "batch 3 height width"]:
    """Move images to a device and their channels to the second dimension.

    Args:
        images: RGB images, channels last.
        device: Device to move them to.

    Returns:
        The images, contiguous in memory.
    """
    return images.to(device).permute(0, 3, 1, 2).contiguous()
