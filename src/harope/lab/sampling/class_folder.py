"""Folders of class-conditional samples: `{i:06d}.png` and a description in `samples.json`.

Sample i depends on the seed `first_seed + i` and its label only. Processes therefore share the work
by index, and an interrupted run can be completed.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from harope._utils.identity import ResumableFolder
from harope._utils.json_files import read_json
from harope._utils.shards import strided_shard
from harope.diffusion.generate import batches, generate
from harope.lab.data.image_io import save_png, to_uint8
from harope.lab.metrics.npz import write_npz
from harope.lab.sampling.prompt_folder import check_complete
from harope.lab.sampling.runs import ClassGenerator
from harope.lab.training.serialization import to_json

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


def sample_folder(
    generator: ClassGenerator,
    plan: FolderPlan,
    out: Path,
    *,
    decode: Callable[[Tensor], Tensor] | None = None,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    quiet: bool = False,
) -> Path:
    """Generate the samples that are missing from a folder.

    Args:
        generator: Model and sampler.
        plan: Which samples to generate.
        out: Folder to write to.
        decode: Function that maps latents to images in [-1, 1]; None for a pixel-space model.
        device: Device of the model.
        rank: Rank of this process, which generates every `world_size`-th missing sample.
        world_size: Number of processes.
        quiet: Whether to hide the progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder contains samples of another plan or model, or a label is out of
            range.
    """
    check_labels(plan.labels, generator.model.config.num_classes)
    manifest = _manifest(generator, plan)
    ResumableFolder(
        out, manifest, manifest=out / MANIFEST_FILE, content="samples", hint="choose another --out"
    ).begin()
    indices = strided_shard(range(plan.count), rank, world_size)
    missing = [index for index in indices if not _path(out, index).exists()]
    model = generator.model.to(device).eval()
    with tqdm(total=len(missing), desc="samples", disable=quiet or rank > 0) as bar:
        for chunk in batches(len(missing), plan.batch_size):
            indices = [missing[position] for position in chunk]
            _sample_batch(model, generator, plan, indices, out, decode, device)
            bar.update(len(indices))
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


def read_folder(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Read the description and image paths of a complete folder of samples.

    Args:
        folder: Folder that `sample_folder` wrote.

    Returns:
        The content of `samples.json`, and the paths of the images in order.

    Raises:
        ValueError: If the folder is not a folder of samples, or is incomplete.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not a folder of samples: it has no {MANIFEST_FILE}")
    manifest = read_json(path, dict[str, Any])
    paths = [_path(folder, index) for index in range(manifest["count"])]
    check_complete(folder, paths)
    return manifest, paths


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


def _sample_batch(
    model: Callable[..., Tensor],
    generator: ClassGenerator,
    plan: FolderPlan,
    indices: list[int],
    out: Path,
    decode: Callable[[Tensor], Tensor] | None,
    device: torch.device | str,
) -> None:
    samples = generate(
        model,
        generator.process,
        shape=plan.shape,
        labels=None if plan.labels is None else [plan.labels[index] for index in indices],
        null_class=generator.model.config.null_class,
        seeds=[plan.first_seed + index for index in indices],
        config=generator.sampling,
        device=device,
    )
    images = to_uint8(decode(samples) if decode else samples)
    for index, image in zip(indices, images, strict=True):
        save_png(image, _path(out, index))


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.png"


def _manifest(generator: ClassGenerator, plan: FolderPlan) -> dict[str, Any]:
    values = asdict(plan)
    del values["batch_size"]
    return {
        "model": generator.config.to_dict(),
        "train": None if generator.train is None else to_json(generator.train),
        "sampling": asdict(generator.sampling),
        **values,
    }
