"""Folders of class-conditional samples: `{i:06d}.png` and a description in `samples.json`.

Sample i depends on the seed `first_seed + i` and its label only. Processes therefore share the work
by index, and an interrupted run can be completed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from harope._utils.json_files import read_json
from harope._utils.shards import Workers, strided_shard
from harope.diffusion.generate import generate
from harope.lab.data.image_io import save_png
from harope.lab.data.latents.vae import Vae, decode_latents
from harope.lab.metrics.npz import write_npz
from harope.lab.sampling.runs import ClassGenerator, describe_decoder
from harope.lab.sampling.stored_samples import (
    StoredSamples,
    check_complete,
    check_seeds,
    list_numbered_images,
    to_images,
)
from harope.lab.training.execution import autocast, describe_precision

MANIFEST_FILE = "samples.json"


@dataclass(frozen=True, kw_only=True)
class FolderPlan:
    """Which samples to generate into a folder."""

    shape: tuple[int, int, int]
    """Channels, height and width of the model's output."""
    labels: tuple[int, ...] | None
    """Class of each sample; None for a model without classes."""
    count: int
    """Number of samples."""
    first_seed: int = 0
    """Seed of sample 0."""
    batch_size: int = 64
    """Samples generated at once; it does not affect the result."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.batch_size < 1:
            raise ValueError(
                f"count and batch_size must be at least 1, got {self.count} and {self.batch_size}"
            )
        if self.labels is not None and len(self.labels) != self.count:
            raise ValueError(
                f"there are {len(self.labels)} labels but count is {self.count}: pass one label "
                f"per sample"
            )
        check_seeds(self.first_seed, self.count)


def sample_folder(
    generator: ClassGenerator,
    plan: FolderPlan,
    out: Path,
    *,
    vae: Vae | None = None,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    workers: Workers | None = None,
    quiet: bool = False,
) -> Path:
    """Generate the samples that are missing from a folder.

    Args:
        generator: Model and sampler.
        plan: Which samples to generate.
        out: Folder to write to.
        vae: Autoencoder that decodes latents, on the device; None for a pixel-space model.
        device: Device of the model.
        overwrite: Whether to replace samples of another plan, model or sampler.
        workers: This process among those that share the samples.
        quiet: Whether to hide the progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder contains other samples and `overwrite` is false, naming the first
            difference and both values; if it contains other files; or if a label is out of range.
    """
    workers = workers or Workers()
    check_labels(plan.labels, generator.model.config.num_classes or 0)
    stored = StoredSamples(
        out,
        {
            **_describe(plan),
            **generator.describe(),
            "vae": describe_decoder(vae),
            **describe_precision(generator.precision_on(device)),
        },
        out / MANIFEST_FILE,
        overwrite=overwrite,
        list_files=lambda _: list_numbered_images(out),
        workers=workers,
    )
    indices = strided_shard(range(plan.count), workers.rank, workers.world_size)
    missing = [index for index in indices if not stored.has(_path(out, index))]
    generator.model.to(device).eval()
    stored.fill(
        missing,
        lambda batch: _generate(generator, plan, batch, vae, device),
        lambda index, image: save_png(image, _path(out, index)),
        batch_size=plan.batch_size,
        quiet=quiet,
    )
    return out


def check_labels(labels: Sequence[int] | None, num_classes: int) -> None:
    """Check that all labels are classes of the model.

    Args:
        labels: Class of each sample; None for a model without classes.
        num_classes: Number of classes of the model.

    Raises:
        ValueError: If a label is not in [0, num_classes).
    """
    if labels is None:
        return
    wrong = [label for label in labels if not 0 <= label < num_classes]
    if wrong:
        raise ValueError(
            f"label {wrong[0]} is out of range: the model's classes are 0 to {num_classes - 1}"
        )


def spread_labels(count: int, num_classes: int) -> tuple[int, ...] | None:
    """Distribute samples evenly over the classes.

    Args:
        count: Number of samples.
        num_classes: Number of classes.

    Returns:
        Class of each sample; None if there are no classes.
    """
    if not num_classes:
        return None
    return tuple(index * num_classes // count % num_classes for index in range(count))


@dataclass(frozen=True)
class SampleInfo:
    """Those fields of `samples.json` that evaluations read."""

    count: int
    """Number of samples."""
    labels: list[int] | None = None
    """Class of each sample; None for a model without classes."""
    model: dict[str, Any] = field(default_factory=dict)
    """Configuration of the model."""
    train: dict[str, Any] | None = None
    """Configuration of the training; None if unknown."""

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != self.count:
            raise ValueError(f"count is {self.count} but there are {len(self.labels)} labels")


def read_folder(folder: Path) -> tuple[SampleInfo, list[Path]]:
    """Read the description and image paths of a complete folder of samples.

    Args:
        folder: Folder that `sample_folder` wrote.

    Returns:
        The description in `samples.json`, and the paths of the images in order.

    Raises:
        ValueError: If the folder is not a folder of samples, or is incomplete, or its description
            is damaged.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not a folder of samples: it has no {MANIFEST_FILE}")
    info = read_json(path, SampleInfo)
    paths = [_path(folder, index) for index in range(info.count)]
    check_complete(folder, paths)
    return info, paths


def pack_folder(folder: Path, out: Path) -> Path:
    """Write the images of a folder to an `.npz` file for ADM's evaluator.

    Args:
        folder: Folder that `sample_folder` wrote.
        out: Path of the `.npz` file, whose array `arr_0` contains all images.

    Returns:
        The path of the file.

    Raises:
        ValueError: If the folder is not a folder of samples, or is incomplete.
    """
    from PIL import Image

    _, paths = read_folder(folder)
    batches_of_one = (np.asarray(Image.open(path).convert("RGB"))[None] for path in paths)
    return write_npz(out, batches_of_one, len(paths))


def _generate(
    generator: ClassGenerator,
    plan: FolderPlan,
    indices: Sequence[int],
    vae: Vae | None,
    device: torch.device | str,
) -> UInt8[Tensor, "batch height width 3"]:
    with autocast(generator.precision_on(device), device):
        samples = generate(
            generator.model,
            generator.process,
            shape=plan.shape,
            labels=None if plan.labels is None else [plan.labels[index] for index in indices],
            null_class=generator.model.config.null_class,
            seeds=[plan.first_seed + index for index in indices],
            config=generator.sampling,
            device=device,
        )
    return to_images(samples if vae is None else decode_latents(vae, samples))


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.png"


def _describe(plan: FolderPlan) -> dict[str, Any]:
    values = asdict(plan)
    del values["batch_size"]
    return values
