"""Encoding datasets of images to datasets of latents."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.digests import bytes_digest, weights_digest
from harope._utils.folder_lock import lock_folder
from harope._utils.progress import Progress
from harope.lab.data.dataset import Batch, FiniteLabelledDataset, items_in_order
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
    quiet: bool = True,
) -> Path:
    """Write the latents and labels of all images of a dataset, in its order.

    Encoding runs on the device of the VAE. An interrupted run is resumed after the last complete
    shard ("shards") or batch ("npy").

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
        quiet: Whether to hide the progress bar.

    Returns:
        `out_dir`.

    Raises:
        ValueError: If the folder was begun with other images, options or weights of the VAE, the
            VAE does not accept images of this shape, or another process writes to the folder.
    """
    manifest = _describe(dataset, vae, dtype=dtype, flips=flip, posterior=posterior, seed=seed)
    spec = manifest.encoding
    assert spec is not None
    with lock_folder(out_dir):
        writer = _open_writer(form, out_dir, manifest, shard_size * spec.latents_per_image)
        first = writer.written
        images = items_in_order(
            dataset,
            start=first // spec.latents_per_image,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        with Progress(manifest.total, "latents", done=first, quiet=quiet) as bar:
            for latents, labels in _encoded(images, vae, manifest.shape, spec, first):
                writer.add(latents, labels)
                bar.update(len(labels))
    return Path(out_dir)


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


def _open_writer(
    form: Form, folder: str | Path, manifest: Manifest, shard_size: int
) -> LatentWriter:
    if form == "shards":
        return LatentShardWriter(folder, manifest, shard_size)
    return LatentPairWriter(folder, manifest)


def _encoded(
    batches: Iterator[Batch],
    vae: Vae,
    shape: tuple[int, int, int],
    spec: LatentSpec,
    first: int,
) -> Iterator[Batch]:
    """Yield the latents and labels of batches of images; `first` is the first latent's index."""
    for images, labels in batches:
        if spec.flips:
            images = torch.stack([images, images.flip(-1)], dim=1).flatten(0, 1)
        indices = range(first, first + len(images))
        noise = None
        if spec.posterior == "sample":
            noise = _noise(spec.seed, indices, shape).to(vae.device)
        latents = encode_latents(vae, images.to(vae.device), noise)
        yield latents, labels.repeat_interleave(spec.latents_per_image)
        first = indices.stop


def _noise(
    seed: int, indices: range, shape: tuple[int, int, int]
) -> Float32[Tensor, "batch channels height width"]:
    """Sample noise latent by latent on the CPU, independently of the device and the batches."""
    return torch.stack([torch.randn(shape, generator=_generator(seed, index)) for index in indices])


def _generator(seed: int, index: int) -> torch.Generator:
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
