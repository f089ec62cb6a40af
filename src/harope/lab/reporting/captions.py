"""Pictures with their captions under them."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

CAPTION_WIDTH = 17
"""Characters that fit under a picture."""


def plot_captioned_images(
    columns: dict[str, Float[Tensor, "batch 3 height width"]],
    captions: Sequence[str],
    path: Path,
    *,
    across: int = 4,
) -> None:
    """Write a PNG: for every caption its picture of each column side by side, in [0, 1].

    Raises ValueError where a column has another number of pictures than there are captions.
    """
    import matplotlib.pyplot as plt

    for name, pictures in columns.items():
        if len(pictures) != len(captions):
            raise ValueError(
                f"column {name!r} has {len(pictures)} pictures but there are {len(captions)} "
                f"captions: give one picture each"
            )
    rows, width = math.ceil(len(captions) / across), CAPTION_WIDTH * len(columns)
    figure, axes = plt.subplots(
        rows, across, squeeze=False, figsize=(1.1 * across * len(columns), 1.5 * rows)
    )
    for axis in axes.flat:
        axis.axis("off")
    for index, caption in enumerate(captions):
        axis = axes[index // across, index % across]
        pair = np.concatenate([_array(pictures[index]) for pictures in columns.values()], axis=1)
        axis.axis("on")
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_color("lightgrey")
        axis.imshow(pair, interpolation="nearest")
        axis.set_xlabel("\n".join(textwrap.wrap(caption, width)), fontsize=7, labelpad=2)
    figure.suptitle(" | ".join(columns), fontsize=8)
    figure.tight_layout(h_pad=1.6)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _array(picture: Tensor) -> np.ndarray:
    """Channels last, with a white edge to its right."""
    pixels = picture.clamp(0, 1).permute(1, 2, 0).numpy()
    return np.pad(pixels, ((0, 0), (0, 2), (0, 0)), constant_values=1.0)
