"""What a folder of latent shards says about itself: ``manifest.json``."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from harope._utils.atomic import write_json_atomic
from harope._utils.identity import first_difference
from harope._utils.json_files import load_json

VERSION = 1
MANIFEST_FILE = "manifest.json"

LatentDtype: TypeAlias = Literal["float16", "float32"]
Posterior: TypeAlias = Literal["sample", "mode"]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How images became latents: what decoding, and going on with an encoding, must know."""

    vae: str
    """Folder or hub id of the AutoencoderKL."""
    scaling_factor: float
    """latent = (z - shift_factor) * scaling_factor."""
    shift_factor: float
    """Subtracted from what the encoder gives."""
    image_size: int
    """Height and width of the images in pixels."""
    flips: bool
    """Whether each image's latent is followed by that of the mirrored image."""
    posterior: Posterior
    """Whether latents are samples of the encoder's normal distribution, or its mode."""
    seed: int
    """Seed of the posterior's noise."""

    @property
    def copies(self) -> int:
        """Latents per image."""
        return 2 if self.flips else 1


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a folder of latents."""

    name: str
    """File name, a safetensors file with ``features`` and ``labels``."""
    count: int
    """Latents in it."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A folder of latents, or the part of it that is written so far."""

    version: int = VERSION
    """Of this format."""
    shape: tuple[int, int, int]
    """Channels, height and width of a latent."""
    dtype: LatentDtype
    """Of the stored features."""
    total: int
    """Latents when complete."""
    num_classes: int
    """Labels lie in [0, num_classes)."""
    encoding: Encoding | None = None
    """Where they come from; None for latents of unknown origin."""
    shards: tuple[Shard, ...] = ()
    """In order."""

    @property
    def count(self) -> int:
        """Latents written so far."""
        return sum(shard.count for shard in self.shards)

    @property
    def torch_dtype(self) -> torch.dtype:
        """``dtype`` for torch."""
        return {"float16": torch.float16, "float32": torch.float32}[self.dtype]

    def save(self, folder: Path, name: str = MANIFEST_FILE) -> None:
        """Write the manifest, beside and then renamed into place."""
        write_json_atomic(folder / name, asdict(self) | {"count": self.count})


def load_manifest(folder: str | Path, name: str = MANIFEST_FILE) -> Manifest:
    """Read a folder's manifest. ValueError naming the file where it is missing or unreadable."""
    path = Path(folder) / name
    if not path.is_file():
        raise ValueError(f"{folder} holds no {name}: name a folder that was encoded")
    try:
        values = load_json(path)
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']}, this program reads {VERSION}")
        return _from_json(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): encode the images again") from error


def resume_manifest(folder: Path, manifest: Manifest, name: str = MANIFEST_FILE) -> Manifest:
    """``manifest``, or the one that a former run left there, with its shards.

    Raises ValueError naming the first field in which the two differ.
    """
    if not (folder / name).exists():
        return manifest
    former = load_manifest(folder, name)
    if difference := first_difference(_described(former), _described(manifest)):
        raise ValueError(
            f"{folder} was begun with {difference}: name another folder, or encode with the same "
            "options"
        )
    return former


def _described(manifest: Manifest) -> dict[str, Any]:
    values = asdict(replace(manifest, shards=()))
    return values | (values.pop("encoding") or {})


def _from_json(values: dict[str, Any]) -> Manifest:
    # The count is written for readers of the file; here the shards say it.
    del values["count"]
    values["shape"] = tuple(values["shape"])
    values["shards"] = tuple(Shard(**shard) for shard in values["shards"])
    values["encoding"] = values["encoding"] and Encoding(**values["encoding"])
    return Manifest(**values)
