"""What turns images into features, whatever the network."""

import hashlib
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

ExtractorName: TypeAlias = Literal["inception", "dinov2", "lite0"]


class Features(NamedTuple):
    """What an extractor says of a batch of images."""

    features: Float32[Tensor, "batch dim"]
    """What distances compare."""
    logits: Float32[Tensor, "batch classes"] | None = None
    """For the Inception Score, without bias where the network is Inception."""
    spatial: Float32[Tensor, "batch spatial"] | None = None
    """Features that keep places, for sFID."""


@runtime_checkable
class Extractor(Protocol):
    """A network and its preparation of images."""

    name: str
    label: str
    """For people: distances are called FD-`label`."""
    features_dim: int
    resize: str
    """How images come to the network's size, in words."""
    weights: str
    """Tells one training from another."""
    has_logits: bool
    has_spatial: bool

    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        """Features of RGB images."""
        ...


class FunctionExtractor:
    """Any function from images to features."""

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
        self.name = self.label = name
        self.features_dim, self.resize, self.weights = features_dim, resize, weights
        self._function = function

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        """Raises ValueError where the function gives features of another shape."""
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
    """An extractor with its weights, from `weights` or where its package keeps or finds them.

    inception: a file of torch-fidelity's weights, or its own download; dinov2: a folder or hub id,
    or facebook/dinov2-large; lite0: its package, `weights` must be None.
    """
    if name == "inception":
        from harope.lab.metrics.extractors.inception import Inception

        return Inception(weights, device)
    if name == "dinov2":
        from harope.lab.metrics.extractors.dinov2 import DINOv2

        return DINOv2(weights or DINOv2.DEFAULT, device)
    if weights is not None:
        raise ValueError(f"lite0 has the weights of its package: leave {weights} out")
    from harope.lab.metrics.extractors.lite0 import Lite0

    return Lite0(device)


def channels_first(
    images: UInt8[Tensor, "batch height width 3"], device: torch.device | str
) -> UInt8[Tensor, "batch 3 height width"]:
    """Images as torch's networks take them, on their device."""
    return images.to(device).permute(0, 3, 1, 2).contiguous()


def fingerprint(module: nn.Module) -> str:
    """A digest of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
