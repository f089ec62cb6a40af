"""Description of a folder of latents, stored as `manifest.json`."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from harope._utils.atomic import write_json_atomic
from harope._utils.identity import first_difference
from harope._utils.json_files import load_json, validate
from harope._utils.untrusted import check_plain_name

VERSION = 1
MANIFEST_FILE = "manifest.json"

LatentDtype: TypeAlias = Literal["float16", "float32"]
Posterior: TypeAlias = Literal["sample", "mode"]


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """How latents were computed from images: needed to decode them and to resume the encoding."""

    vae: str
    """Folder or hub id of the AutoencoderKL."""
    scaling_factor: float
    """Scale in latent = (z - shift_factor) * scaling_factor."""
    shift_factor: float
    """Offset that is subtracted from the encoder's output z."""
    image_size: int
    """Height and width of the images in pixels."""
    flips: bool
    """Whether each latent is followed by the latent of the mirrored image."""
    posterior: Posterior
    """Whether latents are samples from the encoder's normal distribution or its mode."""
    seed: int
    """Seed of the posterior noise."""
    vae_weights: str | None = None
    """Digest of the autoencoder's weights; None in files of earlier versions."""
    images: str | None = None
    """Digest of the dataset's identity; None in files of earlier versions."""

    @property
    def latents_per_image(self) -> int:
        """Number of latents per image: 2 with flips, else 1."""
        return 2 if self.flips else 1


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file in a folder of latents."""

    name: str
    """Name of a safetensors file with the tensors `features` and `labels`."""
    count: int
    """Number of latents in the file."""

    def __post_init__(self) -> None:
        check_plain_name(self.name, "a shard")
        if self.count < 1:
            raise ValueError(f"shard {self.name} must have at least 1 latent, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Description of a folder of latents, which may be incomplete."""

    version: int = VERSION
    """Version of the file format."""
    shape: tuple[int, int, int]
    """Channels, height and width of one latent."""
    dtype: LatentDtype
    """Data type of the stored latents."""
    total: int
    """Number of latents in the complete folder."""
    num_classes: int
    """Number of classes; labels lie in [0, num_classes)."""
    encoding: LatentSpec | None = None
    """How the latents were computed; None if unknown."""
    shards: tuple[Shard, ...] = ()
    """Files written so far, in order."""

    def __post_init__(self) -> None:
        if min(*self.shape, self.total, self.num_classes) < 1 or self.count > self.total:
            raise ValueError(
                f"shape {self.shape}, total {self.total} and num_classes {self.num_classes} must "
                f"be positive, and the shards' {self.count} latents at most the total"
            )

    @property
    def count(self) -> int:
        """Number of latents written so far."""
        return sum(shard.count for shard in self.shards)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The stored `dtype` as a dtype of PyTorch, for reading and writing tensors."""
        return {"float16": torch.float16, "float32": torch.float32}[self.dtype]

    def save(self, folder: Path, name: str = MANIFEST_FILE) -> None:
        """Write the manifest atomically.

        Args:
            folder: Folder of latents.
            name: File name of the manifest.
        """
        write_json_atomic(folder / name, asdict(self) | {"count": self.count})


class LatentWriter(ABC):
    """Resumable writer of the latents that a manifest describes."""

    @property
    @abstractmethod
    def ranges(self) -> list[range]:
        """Numbers of the latents that are missing, which the caller must add in this order."""

    @abstractmethod
    def add(
        self,
        features: Float[Tensor, "batch channels height width"],
        labels: Int64[Tensor, "batch"],
    ) -> None:
        """Append latents and labels.

        Args:
            features: The next latents.
            labels: Their labels.
        """

    @abstractmethod
    def finish(self) -> None:
        """Complete the folder, after all latents were added."""


def load_manifest(folder: str | Path, name: str = MANIFEST_FILE) -> Manifest:
    """Read a folder's manifest.

    Args:
        folder: Folder of latents.
        name: File name of the manifest.

    Returns:
        The description of the latents.

    Raises:
        ValueError: If the file is missing, damaged or of another format version.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise ValueError(f"{folder} has no {name}: pass a folder of encoded images")
    try:
        values = validate(load_json(path), dict[str, Any], "the file")
        if (version := values.get("version")) != VERSION:
            raise ValueError(f"its version is {version!r}, but this program reads {VERSION}")
        # The count is redundant, and written for people who read the file.
        values.pop("count", None)
        if unknown := values.keys() - {field.name for field in fields(Manifest)}:
            raise ValueError(f"it has the unknown field {min(unknown)}")
        return validate(values, Manifest, "the file")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): encode the images again") from error


def resume_manifest(folder: Path, manifest: Manifest, name: str = MANIFEST_FILE) -> Manifest:
    """Return the manifest in a folder if there is one, else `manifest`.

    Args:
        folder: Folder of latents.
        manifest: Description of the latents to write, without shards.
        name: File name of the manifest.

    Returns:
        The description of the latents, with the shards written so far.

    Raises:
        ValueError: If the folder was begun with a different description; the message names the
            first field that differs.
    """
    if not (folder / name).exists():
        return manifest
    former = load_manifest(folder, name)
    # The weights identify the VAE; its path may be written differently.
    known = former.encoding is not None and former.encoding.vae_weights is not None
    ignore = ("vae",) if known else ()
    if difference := first_difference(_described(former), _described(manifest), ignore=ignore):
        raise ValueError(
            f"{folder} was begun with {difference}: choose another folder, or encode with the same "
            "options"
        )
    return former


def count_classes(labels: np.ndarray, num_classes: int | None, path: Path) -> int:
    """Return the number of classes after checking that it covers all labels.

    Args:
        labels: Class labels, (n,).
        num_classes: Number of classes; None for one more than the largest label.
        path: Origin of the labels, for the error message.

    Returns:
        `num_classes`, or one more than the largest label.

    Raises:
        ValueError: If a label is negative or not below `num_classes`.
    """
    count = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    invalid = labels[(labels < 0) | (labels >= count)]
    if len(invalid):
        raise ValueError(
            f"{path} contains label {invalid[0]}, which is not in [0, num_classes {count}): "
            "raise num_classes or correct the labels"
        )
    return count


def _described(manifest: Manifest) -> dict[str, Any]:
    values = asdict(replace(manifest, shards=()))
    return values | (values.pop("encoding") or {})
