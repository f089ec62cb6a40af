"""Folders of samples that know what generated them, and their completion."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import Float, UInt8
from torch import Tensor

from harope._utils.atomic import write_json_atomic
from harope._utils.identity import ResumableFolder, first_difference
from harope._utils.json_files import load_json
from harope._utils.progress import Progress
from harope._utils.shards import Workers, do_nothing
from harope.diffusion.generate import batches
from harope.lab.data.image_io import to_uint8

T = TypeVar("T")

MAX_SEED = 2**63 - 1
_NUMBERED = re.compile(r"\d{6,}\.png")


class StoredSamples:
    """A folder that is filled with the samples of one generator.

    Nothing is written before the first samples have been generated, so that a command that fails
    leaves the folder as it was.

    Args:
        out: The folder, which need not exist.
        identity: What the samples depend on, as JSON values.
        manifest: File in which the identity is stored.
        overwrite: Whether to replace the samples of another generator, once the first new samples
            have been generated. Folders of other content are never overwritten.
        list_files: Function that lists the files of the samples that a manifest describes, which
            `overwrite` removes.
        workers: This process among those that fill the folder.

    Raises:
        ValueError: If the folder contains samples of another generator and `overwrite` is false,
            naming the first difference; if it contains other files; or if the manifest is damaged.
    """

    def __init__(
        self,
        out: Path,
        identity: Mapping[str, Any],
        manifest: Path,
        *,
        overwrite: bool,
        list_files: Callable[[Any], Iterable[Path]],
        workers: Workers,
    ) -> None:
        hint = "choose another --out"
        if manifest.exists():
            hint += ", or pass --overwrite to replace the samples"
        self._folder = ResumableFolder(
            out, identity, manifest=manifest, content="samples", hint=hint
        )
        self._workers = workers
        self._replaced = self._find_replaced(list_files) if overwrite else None
        self._resumed = self._replaced is None and self._folder.check()
        self._begun = False

    @property
    def resumed(self) -> bool:
        """Whether an earlier run began the folder, whose samples are kept."""
        return self._resumed

    def has(self, path: Path) -> bool:
        """Tell whether a sample has been generated.

        Args:
            path: Image file of the sample.

        Returns:
            Whether an earlier run of the same generator has written the complete file.
        """
        return self._resumed and is_complete_png(path)

    def fill(
        self,
        missing: Sequence[T],
        generate: Callable[[Sequence[T]], UInt8[Tensor, "batch height width 3"]],
        save: Callable[[T, UInt8[Tensor, "height width 3"]], None],
        *,
        batch_size: int,
        quiet: bool,
        prepare: Callable[[], None] = do_nothing,
    ) -> None:
        """Generate and save samples.

        Args:
            missing: Samples of this process.
            generate: Generates the images of a batch of samples.
            save: Writes the image of a sample.
            batch_size: Samples generated at once.
            quiet: Whether to hide the progress bar, which only the first process shows.
            prepare: Called in a new folder before the first sample is saved.
        """
        hidden = quiet or self._workers.rank > 0
        with Progress(len(missing), "samples", quiet=hidden) as bar:
            for chunk in batches(len(missing), batch_size):
                samples = missing[chunk.start : chunk.stop]
                images = generate(samples)
                self._begin(prepare)
                for sample, image in zip(samples, images, strict=True):
                    save(sample, image)
                bar.update(len(samples))
        if self._replaced is not None:
            # All processes must take part, those without samples too.
            self._begin(prepare)

    def _find_replaced(self, list_files: Callable[[Any], Iterable[Path]]) -> list[Path] | None:
        """Return the files of the samples to replace; None if there are no other samples."""
        if not self._folder.manifest.exists():
            return None
        stored = load_json(self._folder.manifest)
        if first_difference(stored, self._folder.identity) is None:
            return None
        return list(list_files(stored))

    def _begin(self, prepare: Callable[[], None]) -> None:
        if self._begun:
            return
        self._begun = True
        if self._replaced is None:
            self._folder.begin()
        else:
            self._replace(self._replaced)
        if not self._resumed:
            prepare()

    def _replace(self, paths: Iterable[Path]) -> None:
        # Every process has read the old manifest before the first one removes its samples.
        self._workers.wait()
        if self._workers.rank == 0:
            self._remove_files(paths)
            write_json_atomic(self._folder.manifest, self._folder.identity)
        self._workers.wait()

    def _remove_files(self, paths: Iterable[Path]) -> None:
        """Remove files, and those of their folders below the sample folder that become empty."""
        folders = (self._folder.folder, self._folder.manifest.parent)
        for path in paths:
            path.unlink(missing_ok=True)
            for parent in path.parents:
                if parent in folders or not parent.is_dir() or any(parent.iterdir()):
                    break
                parent.rmdir()


def to_images(
    samples: Float[Tensor, "batch channels height width"],
) -> UInt8[Tensor, "batch height width 3"]:
    """Convert samples to 8-bit RGB.

    Args:
        samples: Values in [-1, 1].

    Returns:
        Images on the CPU.

    Raises:
        ValueError: If a value is NaN or infinite, for which there is no colour.
    """
    if not samples.isfinite().all():
        raise ValueError(
            "the samples contain NaN or infinity: check the weights of the model, or pass a "
            "smaller guidance"
        )
    return to_uint8(samples)


def is_complete_png(path: Path) -> bool:
    """Tell a complete PNG file from a missing, truncated or damaged one, by its checksums.

    Args:
        path: The file.

    Returns:
        Whether the file is complete.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.verify()
    # Damaged files raise nearly anything: OSError, SyntaxError, struct.error...
    except Exception:
        return False
    return True


def list_numbered_images(folder: Path) -> list[Path]:
    """List the images `{index:06d}.png` of a folder.

    Args:
        folder: Folder of samples.

    Returns:
        Paths of the images, in no particular order.
    """
    return [path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name)]


def check_complete(folder: Path, paths: Sequence[Path]) -> None:
    """Check that all images of a folder of samples exist.

    Args:
        folder: Folder of samples, for the error message.
        paths: Paths of its images.

    Raises:
        ValueError: If an image is missing.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise ValueError(
            f"{folder} is missing {len(missing)} of {len(paths)} images, the first being "
            f"{missing[0].name}: run the same `harope sample` again to complete it"
        )


def check_seeds(first_seed: int, count: int) -> None:
    """Check that consecutive seeds can seed a generator.

    Args:
        first_seed: Seed of the first sample.
        count: Number of samples.

    Raises:
        ValueError: If a seed is negative or needs more than 63 bits.
    """
    if not 0 <= first_seed <= MAX_SEED - count + 1:
        raise ValueError(
            f"first_seed {first_seed} must lie in 0 .. {MAX_SEED - count + 1}, so that the seeds "
            f"of {count} samples have at most 63 bits"
        )
