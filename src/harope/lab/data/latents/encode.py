"""Encoding datasets of images to datasets of latents."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from harope._utils.digests import bytes_digest, weights_digest
from harope._utils.folder_lock import lock_folder
from harope._utils.progress import Progress
from harope._utils.shards import Workers
from harope.lab.data.dataset import FiniteLabelledDataset, items_in_batches
from harope.lab.data.latents.manifest import (
    LatentDtype,
    LatentSpec,
    LatentWriter,
    Manifest,
    Posterior,
)
from harope.lab.data.latents.npy_writer import LatentPairWriter
from harope.lab.data.latents.shards import LatentShardWriter
from harope.lab.data.latents.vae import (
    Vae,
    encode_latents,
    latent_shape,
    scaling_factor,
    shift_factor,
)

Form: TypeAlias = Literal["shards", "npy"]
"""Format of the files of latents."""


def encode_images(
    dataset: FiniteLabelledDataset,
    vae: Vae,
    out_dir: str | Path,
    *,
    form: Form = "shards",
    dtype: LatentDtype = "float32",
    flip: bool = False,
    posterior: Posterior = "sample",
    seed: int = 0,
    batch_size: int = 32,
    shard_size: int = 4096,
    num_workers: int = 0,
    workers: Workers | None = None,
    quiet: bool = True,
) -> Path:
    """Write the latents and labels of all images of a dataset, in its order.

    Encoding runs on the device of the VAE. An interrupted run is resumed after the last complete
    shard ("shards") or batch ("npy"). Several processes divide the shards among themselves; the
    files do not depend on how many there are.

    Args:
        dataset: Images to encode.
        vae: Autoencoder of the latents.
        out_dir: Folder to write to.
        form: "shards" for a folder that `LatentShardDataset` reads, "npy" for `features.npy` and
            `labels.npy`.
        dtype: Data type of the stored latents.
        flip: Whether to write the latent of the mirrored image after each latent.
        posterior: Whether latents are samples from the encoder's distribution or its mode.
        seed: Seed of the posterior noise, which depends only on it and the latent's index.
        batch_size: Images read at once.
        shard_size: Images per shard.
        num_workers: Worker processes that read images.
        workers: This process among those that encode; of "npy" there can be only one.
        quiet: Whether to hide the progress bar.

    Returns:
        `out_dir`.

    Raises:
        ValueError: If the folder was begun with other images, options or weights of the VAE, the
            VAE does not accept images of this shape, several processes would write "npy", or
            another command writes to the folder.
    """
    workers = workers or Workers()
    if form == "npy" and workers.world_size > 1:
        raise ValueError(
            f"form is 'npy', whose one file {workers.world_size} processes cannot write: choose "
            f"'shards', or start one process"
        )
    manifest = _describe(dataset, vae, dtype=dtype, flips=flip, posterior=posterior, seed=seed)
    spec = manifest.encoding
    assert spec is not None
    is_main = workers.rank == 0
    with lock_folder(out_dir) if is_main else nullcontext():
        writer: LatentWriter
        if form == "npy":
            writer = LatentPairWriter(out_dir, manifest)
        else:
            size = shard_size * spec.latents_per_image
            writer = LatentShardWriter(out_dir, manifest, size, workers)
        ranges, copies = writer.ranges, spec.latents_per_image
        # Batches end where shards end, so that latents do not depend on who encodes which.
        batches = [
            part
            for missing in ranges
            for part in _split(range(missing.start // copies, missing.stop // copies), batch_size)
        ]
        images = items_in_batches(dataset, batches, num_workers=num_workers)
        done = manifest.total - sum(map(len, ranges)) if workers.world_size == 1 else 0
        total = manifest.total if workers.world_size == 1 else sum(map(len, ranges))
        with Progress(total, "latents", done=done, quiet=quiet or not is_main) as bar:
            for part, (pixels, labels) in zip(batches, images, strict=True):
                latents = _encode(pixels, vae, manifest.shape, spec, part.start * copies)
                writer.add(latents, labels.repeat_interleave(copies))
                bar.update(len(latents))
        writer.finish()
    return Path(out_dir)


def _split(numbers: range, size: int) -> list[range]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _describe(
    dataset: FiniteLabelledDataset, vae: Vae, *, dtype: LatentDtype, **options: Any
) -> Manifest:
    spec = LatentSpec(
        vae=str(vae.config.get("_name_or_path", "")),
        vae_weights=weights_digest(vae),
        scaling_factor=scaling_factor(vae),
        shift_factor=shift_factor(vae),
        image_size=dataset.shape[1],
        images=bytes_digest(
            json.dumps(dataset.identity, sort_keys=True).encode(),
            str(dataset.files_digest(times=True)).encode(),
            length=16,
        ),
        **options,
    )
    return Manifest(
        shape=latent_shape(vae, dataset.shape),
        dtype=dtype,
        total=len(dataset) * spec.latents_per_image,
        num_classes=dataset.num_classes,
        encoding=spec,
    )


def _encode(
    images: Float32[Tensor, "images 3 height width"],
    vae: Vae,
    shape: tuple[int, int, int],
    spec: LatentSpec,
    first: int,
) -> Float[Tensor, "latents channels y x"]:
    """Return the latents of images; `first` is the first latent's index."""
    if spec.flips:
        images = torch.stack([images, images.flip(-1)], dim=1).flatten(0, 1)
    noise = None
    if spec.posterior == "sample":
        noise = _noise(spec.seed, range(first, first + len(images)), shape).to(vae.device)
    return encode_latents(vae, images.to(vae.device), noise)


def _noise(
    seed: int, indices: range, shape: tuple[int, int, int]
) -> Float32[Tensor, "batch channels height width"]:
    """Sample noise latent by latent on the CPU, independently of the device and the batches."""
    return torch.stack([torch.randn(shape, generator=_generator(seed, index)) for index in indices])


def _generator(seed: int, index: int) -> torch.Generator:
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
