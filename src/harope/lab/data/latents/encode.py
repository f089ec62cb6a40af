"""Data sets of latents from data sets of images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope.lab.data.dataset import Batch, FiniteLabelledDataset, items_in_order
from harope.lab.data.latents.manifest import Encoding, LatentDtype, Manifest, Posterior
from harope.lab.data.latents.npy_writer import LatentPairWriter
from harope.lab.data.latents.shards import LatentShardWriter
from harope.lab.data.latents.vae import (
    Vae,
    decode_latents,
    encode_latents,
    latent_shape,
    load_vae,
    scaling_factor,
    shift_factor,
)

__all__ = ["decode_latents", "encode_images", "load_vae"]


def encode_images(
    source: FiniteLabelledDataset,
    vae: Vae,
    out_dir: str | Path,
    *,
    form: Literal["shards", "npy"] = "shards",
    dtype: LatentDtype = "float32",
    flip: bool = False,
    posterior: Posterior = "sample",
    seed: int = 0,
    batch_size: int = 32,
    shard_size: int = 4096,
    num_workers: int = 0,
    quiet: bool = True,
) -> Path:
    """Write the latents of all images of ``source``, in its order; returns ``out_dir``.

    ``form`` "shards" writes a folder for ``LatentShardDataset``, ``shard_size`` images to a file,
    "npy" ``features.npy`` and ``labels.npy``. With ``flip`` each latent is followed by that of
    the mirrored image. The noise of posterior samples depends on ``seed`` and the place of the
    latent alone. A run that was interrupted goes on after the last whole shard (or batch, "npy").
    Runs on the device of ``vae``. Raises ValueError where the folder was begun with other options
    or the VAE does not take these images.
    """
    from tqdm import tqdm

    encoding = Encoding(
        vae=str(vae.config.get("_name_or_path", "")),
        scaling_factor=scaling_factor(vae),
        shift_factor=shift_factor(vae),
        image_size=source.shape[1],
        flips=flip,
        posterior=posterior,
        seed=seed,
    )
    manifest = Manifest(
        shape=latent_shape(vae, source.shape),
        dtype=dtype,
        total=len(source) * encoding.copies,
        num_classes=source.num_classes,
        encoding=encoding,
    )
    writer: LatentShardWriter | LatentPairWriter
    if form == "shards":
        writer = LatentShardWriter(out_dir, manifest, shard_size * encoding.copies)
    else:
        writer = LatentPairWriter(out_dir, manifest)
    first = writer.written
    images = items_in_order(
        source, start=first // encoding.copies, batch_size=batch_size, num_workers=num_workers
    )
    with tqdm(total=manifest.total, initial=first, desc="latents", disable=quiet) as bar:
        for latents, labels in _encoded(images, vae, manifest.shape, encoding, first):
            writer.add(latents, labels)
            bar.update(len(labels))
    return Path(out_dir)


def _encoded(
    batches: Iterator[Batch],
    vae: Vae,
    shape: tuple[int, int, int],
    encoding: Encoding,
    number: int,
) -> Iterator[Batch]:
    """Latents and labels of images; ``number`` is the place of the first latent."""
    for images, labels in batches:
        if encoding.flips:
            images = torch.stack([images, images.flip(-1)], dim=1).flatten(0, 1)
        numbers = range(number, number + len(images))
        noise = None
        if encoding.posterior == "sample":
            noise = _noise(encoding.seed, numbers, shape).to(vae.device)
        latents = encode_latents(vae, images.to(vae.device), noise)
        yield latents, labels.repeat_interleave(encoding.copies)
        number = numbers.stop


def _noise(
    seed: int, numbers: range, shape: tuple[int, int, int]
) -> Float32[Tensor, "batch channels height width"]:
    """Noise made one by one on the CPU: the same on all devices and in all batches."""
    return torch.stack(
        [torch.randn(shape, generator=_generator(seed, number)) for number in numbers]
    )


def _generator(seed: int, number: int) -> torch.Generator:
    state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
