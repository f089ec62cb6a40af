"""The Inception network of FID: torch-fidelity's port of the TensorFlow graph of 2015."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope._utils.digests import weights_digest
from harope.lab.metrics.features import Features, channels_first

_SPATIAL_CHANNELS = 7


class Inception:
    """2,048 features of the last pooling, 1,008 logits without bias, 17 x 17 x 7 spatial features.

    The spatial features are the first 7 channels of the graph's layer `mixed_6/conv` (Nash et al.
    2021, arXiv 2103.03841, section 4.2), as in ADM's evaluation.

    Args:
        weights: torch-fidelity's weights file; None to let torch-fidelity download it once.
        device: Device to run it on.

    Raises:
        ValueError: If the file contains something else, or the download fails.
    """

    name = "inception"
    display_name = "Inception"
    features_dim = 2048
    resize = "299, TF1 bilinear"
    has_logits = has_spatial = True

    def __init__(self, weights: str | Path | None = None, device: torch.device | str = "cpu"):
        self._device = device
        self._network = _load(weights).to(device)
        self.weights = weights_digest(self._network)
        self._spatial: list[Tensor] = []
        self._network.Mixed_6d.branch1x1.register_forward_hook(self._capture)

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        self._spatial.clear()
        features, logits = self._network(channels_first(images, self._device))
        # ADM's references have TensorFlow's order, channels last.
        spatial = self._spatial.pop().permute(0, 2, 3, 1)[..., :_SPATIAL_CHANNELS].flatten(1)
        return Features(features, logits, spatial)

    def _capture(self, module: Any, inputs: Any, output: Tensor) -> None:
        self._spatial.append(output)


def _load(weights: str | Path | None) -> Any:
    from torch_fidelity import FeatureExtractorInceptionV3

    if weights is not None:
        _check_file(Path(weights))
    try:
        return FeatureExtractorInceptionV3(
            "inception-v3-compat",
            ["2048", "logits_unbiased"],
            feature_extractor_weights_path=None if weights is None else str(weights),
        )
    except URLError as error:
        raise ValueError(
            f"torch-fidelity cannot download Inception's weights ({error.reason}): pass its file "
            "weights-inception-2015-12-05-6726825d.pth with --extractor-weights"
        ) from error
    except RuntimeError as error:
        raise ValueError(
            f"{weights} does not hold torch-fidelity's Inception: "
            f"{str(error).splitlines()[0]}; pass weights-inception-2015-12-05-6726825d.pth"
        ) from error


def _check_file(path: Path) -> None:
    """Check that a file holds tensors only, since torch-fidelity unpickles it without a check."""
    try:
        torch.load(path, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception as error:
        # torch's own message advises to run the pickled code, so it is not repeated.
        raise ValueError(
            f"{path} does not hold weights only ({type(error).__name__}): pass "
            "weights-inception-2015-12-05-6726825d.pth of torch-fidelity"
        ) from error
