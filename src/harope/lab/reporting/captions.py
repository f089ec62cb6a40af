"""Figures of images with captions."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from torch import Tensor

from harope.lab.reporting.style import save_figure

CAPTION_WIDTH = 17
"""Characters per line below an image."""


def plot_captioned_images(
    columns: dict[str, Float[Tensor, "batch 3 height width"]],
    captions: Sequence[str],
    path: Path,
    *,
    across: int = 4,
) -> None:
    """Write a PNG that shows for every caption the images of all columns side by side.

    Args:
        columns: Images in [0, 1] by name of the column, one per caption.
        captions: Texts below the images.
        path: SVG or PNG file to write.
        across: Captions per row.

    Raises:
        ValueError: A column does not have as many images as there are captions.
    """
    for name, images in columns.items():
        if len(images) != len(captions):
            raise ValueError(
                f"column {name!r} has {len(images)} images but there are {len(captions)} "
                f"captions: pass one image per caption"
            )
    rows, width = math.ceil(len(captions) / across), CAPTION_WIDTH * len(columns)
    figure, axes = plt.subplots(
        rows, across, squeeze=False, figsize=(1.1 * across * len(columns), 1.5 * rows)
    )
    for axis in axes.flat:
        axis.axis("off")
    for index, caption in enumerate(captions):
        axis = axes[index // across, index % across]
        strip = np.concatenate([_to_array(images[index]) for images in columns.values()], axis=1)
        axis.axis("on")
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_color("lightgrey")
        axis.imshow(strip, interpolation="nearest")
        axis.set_xlabel("\n".join(textwrap.wrap(caption, width)), fontsize=7, labelpad=2)
    figure.suptitle(" | ".join(columns), fontsize=8)
    figure.tight_layout(h_pad=1.6)
    save_figure(figure, path, dpi=110)


def _to_array(image: Tensor) -> np.ndarray:
    """Convert an image to channels last, with a white margin on its right."""
    pixels = image.clamp(0, 1).permute(1, 2, 0).numpy()
    return np.pad(pixels, ((0, 0), (0, 2), (0, 0)), constant_values=1.0)
