"""Samples as a folder: `{i:06d}.png` and `samples.json`, which says how each was made.

Sample i depends on the seed `first_seed + i` and its label alone, so processes share the work by
index and an interrupted folder is completed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from harope.diffusion.generate import batches, generate
from harope.lab.data.image_io import save_png, to_uint8
from harope.lab.metrics.npz import write_npz
from harope.lab.sampling.runs import ClassGenerator
from harope.lab.training.serialization import to_json

MANIFEST_FILE = "samples.json"


@dataclass(frozen=True, kw_only=True)
class FolderPlan:
    """Which samples a folder shall hold."""

    shape: tuple[int, int, int]
    """Channels, height and width that the model is asked for."""
    labels: tuple[int, ...] | None
    """One class per sample; None for a model without classes."""
    count: int
    """Number of samples."""
    first_seed: int = 0
    """Seed of sample 0."""
    batch_size: int = 64
    """Samples drawn at once; it does not change them."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.batch_size < 1:
            raise ValueError(
                f"count {self.count} and batch_size {self.batch_size} must be at least 1"
            )
        if self.labels is not None and len(self.labels) != self.count:
            raise ValueError(
                f"labels name {len(self.labels)} samples but count is {self.count}: pass one "
                f"label per sample"
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
    """Draw the samples that `out` lacks, process `rank` every `world_size`-th.

    `decode` maps latents to images in [-1, 1]. Raises ValueError when the folder holds samples of
    another plan, or a label is out of range.
    """
    check_labels(plan.labels, generator.model.config.num_classes)
    manifest = _manifest(generator, plan)
    _open_folder(out, manifest, write=rank == 0)
    missing = [i for i in range(rank, plan.count, world_size) if not _picture(out, i).exists()]
    model = generator.model.to(device).eval()
    with tqdm(total=len(missing), desc="samples", disable=quiet or rank > 0) as bar:
        for chunk in batches(len(missing), plan.batch_size):
            indices = [missing[place] for place in chunk]
            _draw(model, generator, plan, indices, out, decode, device)
            bar.update(len(indices))
    return out


def check_labels(labels: Sequence[int] | None, num_classes: int) -> None:
    """Raise ValueError unless every label is a class of the model."""
    if labels is None:
        return
    wrong = [label for label in labels if not 0 <= label < num_classes]
    if wrong:
        raise ValueError(
            f"label {wrong[0]} is out of range: the model has the classes 0 .. {num_classes - 1}"
        )


def spread_labels(count: int, num_classes: int) -> tuple[int, ...] | None:
    """Labels that visit all classes evenly: as many of each, or nearly so."""
    if not num_classes:
        return None
    return tuple(index * num_classes // count % num_classes for index in range(count))


def read_folder(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """The manifest and the pictures of a folder, in order.

    Raises ValueError when the folder is no sample folder, or not complete.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not a folder of samples: it has no {MANIFEST_FILE}")
    manifest = json.loads(path.read_text())
    pictures = [_picture(folder, index) for index in range(manifest["count"])]
    missing = [picture for picture in pictures if not picture.exists()]
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} of {len(pictures)} pictures, first {missing[0].name}: "
            f"run the same `harope sample` again to complete it"
        )
    return manifest, pictures


def pack_folder(folder: Path, out: Path) -> Path:
    """Write the pictures of a folder as one array, `arr_0`, as ADM's evaluation reads them.

    Raises ValueError when the folder is no sample folder, or not complete.
    """
    from PIL import Image

    _, pictures = read_folder(folder)
    each = (np.asarray(Image.open(picture).convert("RGB"))[None] for picture in pictures)
    return write_npz(out, each, len(pictures))


def _draw(
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
        save_png(image, _picture(out, index))


def _picture(folder: Path, index: int) -> Path:
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


def _open_folder(out: Path, manifest: dict[str, Any], *, write: bool) -> None:
    path, text = out / MANIFEST_FILE, json.dumps(manifest)
    if path.exists() and json.loads(path.read_text()) != json.loads(text):
        raise ValueError(f"{out} holds samples of another plan or model: choose another --out")
    if write:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
