"""DINOv2 (Oquab et al. 2023), from transformers."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from harope.lab.metrics.features import Features, channels_first, fingerprint

SIZE = 224
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class DINOv2:
    """The class token after the last norm, of images resized to 224 and normalised as ImageNet's.

    `path` is a folder or hub id. FD-DINOv2 of Stein et al. 2023 (arXiv 2306.04675) takes the large
    model. Raises ValueError for another architecture.
    """

    DEFAULT = "facebook/dinov2-large"
    name = "dinov2"
    label = "DINOv2"
    resize = "224, bicubic, antialiased"
    has_logits = has_spatial = False

    def __init__(self, path: str, device: torch.device | str = "cpu"):
        from transformers import AutoModel

        self._device = device
        self._model = AutoModel.from_pretrained(path).eval().requires_grad_(False).to(device)
        kind = self._model.config.model_type
        if not kind.startswith("dinov2"):
            raise ValueError(f"{path} holds a model of type {kind!r}: DINOv2 is 'dinov2'")
        self.features_dim = self._model.config.hidden_size
        self.weights = fingerprint(self._model)

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "batch height width 3"]) -> Features:
        """Features of RGB images of any size."""
        pixels = channels_first(images, self._device).float() / 255
        pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bicubic", antialias=True)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        # Bicubic overshoots what a picture can hold.
        states = self._model(pixel_values=(pixels.clamp(0, 1) - mean) / std).last_hidden_state
        return Features(states[:, 0].float())
