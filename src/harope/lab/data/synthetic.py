"""Small synthetic datasets in common formats, for smoke runs and tests."""

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from harope.lab.data.captioned.emoji import IMAGE_FOLDER
from harope.lab.data.captioned.scenes import CaptionedScenesDataset
from harope.lab.data.image_io import save_png, to_uint8
from harope.lab.data.latents.captioned import CAPTIONS_FILE
from harope.lab.data.latents.manifest import Manifest
from harope.lab.data.latents.shards import LatentShardWriter
from harope.lab.scenes.grammar import (
    COLORS,
    KINDS,
    class_prompt,
    encode_class,
    rng_for,
    sample_scene,
)
from harope.lab.scenes.render import render

_IDX_SIZE = 28
# Standard deviation between the class means of latents, whose total variance is 1.
_CLASS_SPREAD = 0.5


def make_idx(root: str | Path, num: int, seed: int = 0) -> None:
    """Write training and test images of 28 x 28 pixels in MNIST's IDX format.

    The images show bright shapes on black. The ten classes are one or two shapes of five kinds.

    Args:
        root: Folder to write to.
        num: Number of images in each split.
        seed: Seed of the images.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    for split, first in (("train", 0), ("t10k", num)):
        labels = torch.arange(num) % (2 * len(KINDS))
        classes = [
            encode_class(KINDS[label % len(KINDS)], "blue", 1 + label // len(KINDS))
            for label in labels.tolist()
        ]
        red = _render_classes(classes, _IDX_SIZE, seed, first)[:, 0]
        pixels = ((1 - red) / (1 - COLORS["blue"][0]) * 255).round().to(torch.uint8)
        _write_idx(root / f"{split}-images-idx3-ubyte", pixels)
        _write_idx(root / f"{split}-labels-idx1-ubyte", labels.to(torch.uint8))


def make_image_folder(root: str | Path, num: int, image_size: int = 32, seed: int = 0) -> None:
    """Write PNG images of one shape each, in one subfolder per kind of shape.

    Args:
        root: Folder to write to.
        num: Number of images.
        image_size: Height and width in pixels.
        seed: Seed of the images.
    """
    kinds = [KINDS[index % len(KINDS)] for index in range(num)]
    colors = [list(COLORS)[index // len(KINDS) % len(COLORS)] for index in range(num)]
    classes = [encode_class(kind, color, 1) for kind, color in zip(kinds, colors, strict=True)]
    images = to_uint8(_render_classes(classes, image_size, seed) * 2 - 1)
    for index, (kind, image) in enumerate(zip(kinds, images, strict=True)):
        save_png(image, Path(root) / kind / f"{index:06d}.png")


def make_captioned_folder(root: str | Path, num: int, image_size: int = 32, seed: int = 0) -> None:
    """Write PNG images of shapes, each with a text file of its caption.

    Args:
        root: Folder to write to.
        num: Number of images.
        image_size: Height and width in pixels.
        seed: Seed of the images.
    """
    images, captions = CaptionedScenesDataset(image_size, seed).samples(range(num))
    for index, (image, caption) in enumerate(zip(to_uint8(images), captions, strict=True)):
        path = Path(root) / f"{index:06d}.png"
        save_png(image, path)
        path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")


def make_latent_pair(
    root: str | Path,
    num: int,
    shape: tuple[int, int, int] = (4, 8, 8),
    num_classes: int = 10,
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write random latents of unit variance whose channel means depend on the class.

    Args:
        root: Folder to write to.
        num: Number of latents.
        shape: Channels, height and width of a latent.
        num_classes: Number of classes.
        seed: Seed of the latents.

    Returns:
        Paths of `features.npy`, float32 (num, *shape), and `labels.npy`, int64 (num,).
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % num_classes
    means = torch.randn(num_classes, shape[0], 1, 1, generator=generator)
    noise = torch.randn(num, *shape, generator=generator)
    mixed = _CLASS_SPREAD * means[labels] + (1 - _CLASS_SPREAD**2) ** 0.5 * noise
    np.save(root / "features.npy", mixed.numpy())
    np.save(root / "labels.npy", labels.numpy())
    return root / "features.npy", root / "labels.npy"


def make_captioned_latents(
    root: str | Path, num: int, shape: tuple[int, int, int], seed: int = 0
) -> None:
    """Write random latents with two captions each, in the format of `harope encode`.

    Args:
        root: Folder to write to.
        num: Number of latents.
        shape: Channels, height and width of a latent.
        seed: Seed of the latents and captions.
    """
    root = Path(root)
    _, captions = CaptionedScenesDataset(seed=seed).samples(range(num))
    generator = torch.Generator().manual_seed(seed)
    manifest = Manifest(shape=shape, dtype="float32", total=num, num_classes=num)
    writer = LatentShardWriter(root, manifest, shard_size=num)
    writer.add(torch.randn(num, *shape, generator=generator), torch.arange(num))
    lines = [json.dumps([caption, f"{caption}, again"]) for caption in captions]
    (root / CAPTIONS_FILE).write_text("".join(f"{line}\n" for line in lines))


def make_emoji(root: str | Path, num: int, seed: int = 0) -> None:
    """Write images of shapes in the layout of the npm package `emoji-datasource-google`.

    Args:
        root: Folder to write to.
        num: Number of images.
        seed: Seed of the images.
    """
    images, captions = CaptionedScenesDataset(64, seed).samples(range(num))
    entries = []
    for index, (image, caption) in enumerate(zip(to_uint8(images), captions, strict=True)):
        file = f"{index:04x}.png"
        save_png(image, Path(root) / IMAGE_FOLDER / file)
        entries.append({"name": caption.upper(), "image": file, "has_img_google": True})
    (Path(root) / "emoji.json").write_text(json.dumps(entries))


def _render_classes(
    classes: list[int], size: int, seed: int, first: int = 0
) -> Float[Tensor, "batch 3 {size} {size}"]:
    scenes = [
        sample_scene(class_prompt(label), rng_for(seed, first + index))
        for index, label in enumerate(classes)
    ]
    return render(scenes, size)


def _write_idx(path: Path, values: UInt8[Tensor, "..."]) -> None:
    lengths = b"".join(length.to_bytes(4, "big") for length in values.shape)
    path.write_bytes(bytes((0, 0, 8, values.ndim)) + lengths + values.numpy().tobytes())
