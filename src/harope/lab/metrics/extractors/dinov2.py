"""Feature extractor DINOv2 (Oquab et al. 2023, arXiv 2304.07193), from transformers."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from harope._utils.digests import weights_digest
from harope.lab.metrics.features import Features, channels_first

SIZE = 224
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class DINOv2:
    """The class token after the last norm, of images resized to 224 x 224 pixels.

    FD-DINOv2 (Stein et al. 2023, arXiv 2306.04675) is defined with the large model, the default of
    `load_extractor`.

    Args:
        path: Local folder or hub id.
        device: Device to run it on.

    Raises:
        ValueError: If the model has another architecture.
    """

    DEFAULT = "facebook/dinov2-large"
    name = "dinov2"
    display_name = "DINOv2"
    resize = "224, bicubic, antialiased"
    has_logits = has_spatial = False

    def __init__(self, path: str, device: torch.device | str = "cpu"):
        from transformers import AutoModel

        self._device = device
        self._model = AutoModel.from_pretrained(path).eval().requires_grad_(False).to(device)
        kind = self._model.config.model_type
        if not kind.startswith("dinov2"):
            raise ValueError(
                f"{path} holds a model of type {kind!r}: pass one of type 'dinov2', such as "
                f"{self.DEFAULT}"
            )
        self.features_dim = self._model.config.hidden_size
        self.weights = weights_digest(self._model)

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        pixels = channels_first(images, self._device).float() / 255
        pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bicubic", antialias=True)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        # Bicubic interpolation may leave [0, 1].
        states = self._model(pixel_values=(pixels.clamp(0, 1) - mean) / std).last_hidden_state
        return Features(states[:, 0].float())
