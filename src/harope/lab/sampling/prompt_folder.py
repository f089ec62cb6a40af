"""Folders of text-to-image samples, in the formats that benchmarks read.

Sample i, counted over all prompts, depends on its prompt and the seed `first_seed + i` only, not on
the batches or the number of processes. An interrupted run can be completed.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope._utils.json_files import load_json, validate
from harope._utils.shards import Workers, strided_shard
from harope.lab.data.image_io import save_png
from harope.lab.sampling.prompts import PromptRequest
from harope.lab.sampling.stored_samples import (
    StoredSamples,
    check_complete,
    check_seeds,
)

MANIFEST_FILE = "prompts.json"

GenerateImages = Callable[[list[str], list[int]], UInt8[Tensor, "batch height width 3"]]
"""Function of prompts and seeds that generates one image each, independently of the others."""


@dataclass(frozen=True)
class PromptSample:
    """One image to generate: its prompt, its place and its seed."""

    index: int
    """Index over all prompts."""
    index_in_prompt: int
    """Index among the samples of its prompt."""
    request: PromptRequest
    """The prompt."""
    seed: int
    """Seed of the sampler."""


@dataclass(frozen=True, kw_only=True)
class PromptPlan:
    """Which samples to generate into a folder."""

    requests: tuple[PromptRequest, ...]
    """The prompts, in order."""
    samples_per_prompt: int
    """Number of images per prompt."""
    first_seed: int = 0
    """Seed of the first sample of the first prompt."""
    batch_size: int = 4
    """Samples generated at once, possibly of several prompts; it does not affect the result."""

    def __post_init__(self) -> None:
        if self.samples_per_prompt < 1 or self.batch_size < 1:
            raise ValueError(
                f"samples_per_prompt and batch_size must be at least 1, got "
                f"{self.samples_per_prompt} and {self.batch_size}"
            )
        if not self.requests:
            raise ValueError("there are no requests: pass at least one prompt")
        check_seeds(self.first_seed, len(self.requests) * self.samples_per_prompt)

    def groups(self) -> list[list[PromptSample]]:
        """List the samples of each prompt.

        Returns:
            One list per prompt, in the order of `requests`.
        """
        count = self.samples_per_prompt
        return [
            [
                PromptSample(index, index - start, request, self.first_seed + index)
                for index in range(start, start + count)
            ]
            for start, request in zip(
                range(0, len(self.requests) * count, count), self.requests, strict=True
            )
        ]


@runtime_checkable
class FolderFormat(Protocol):
    """Folder layout in which a benchmark's scorer expects the images."""

    @property
    def name(self) -> str:
        """Name of the format, stored in the description of a folder."""
        ...

    @property
    def joins_samples(self) -> bool:
        """Whether all samples of a prompt are combined into one file.

        If so, one process must generate all of them.
        """
        ...

    def manifest(self, out: Path) -> Path:
        """Return the path of the description, which must not disturb the scorer.

        Args:
            out: Folder of the images.

        Returns:
            Path of a JSON file inside or next to the folder.
        """
        ...

    def sample_files(self, out: Path, sample: PromptSample) -> list[Path]:
        """List the files of which one shows the sample once it has been generated.

        Args:
            out: Folder of the images.
            sample: The sample.

        Returns:
            Paths of image files: the sample alone, or joined with others.
        """
        ...

    def save(self, out: Path, sample: PromptSample, image: UInt8[Tensor, "height width 3"]) -> None:
        """Write the image of a sample.

        Args:
            out: Folder of the images.
            sample: The sample.
            image: RGB image of the sample.
        """
        ...

    def finish_prompt(self, out: Path, group: Sequence[PromptSample]) -> None:
        """Write the other files of a prompt, as far as its images allow. A second call changes
        nothing.

        Args:
            out: Folder of the images.
            group: All samples of the prompt.
        """
        ...

    def image_paths(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        """List the image files that the scorer reads for a prompt.

        Args:
            out: Folder of the images.
            group: All samples of the prompt.

        Returns:
            Paths of the files, which need not exist yet.
        """
        ...

    def prompt_files(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        """List all files that are written for a prompt.

        Args:
            out: Folder of the images.
            group: All samples of the prompt.

        Returns:
            Paths of the files, which need not exist.
        """
        ...


@dataclass(frozen=True)
class FlatFolder:
    """Images `{index:06d}.png` in one folder, numbered over all prompts."""

    name = "flat"
    joins_samples = False

    def manifest(self, out: Path) -> Path:
        return out / MANIFEST_FILE

    def sample_files(self, out: Path, sample: PromptSample) -> list[Path]:
        return [self._path(out, sample)]

    def save(self, out: Path, sample: PromptSample, image: UInt8[Tensor, "height width 3"]) -> None:
        save_png(image, self._path(out, sample))

    def finish_prompt(self, out: Path, group: Sequence[PromptSample]) -> None:
        pass

    def image_paths(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        return [self._path(out, sample) for sample in group]

    def prompt_files(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        return self.image_paths(out, group)

    def _path(self, out: Path, sample: PromptSample) -> Path:
        return out / f"{sample.index:06d}.png"


def sample_prompts(
    generate: GenerateImages,
    plan: PromptPlan,
    folder_format: FolderFormat,
    out: Path,
    *,
    made_by: dict[str, Any],
    overwrite: bool = False,
    workers: Workers | None = None,
    quiet: bool = False,
) -> None:
    """Generate the samples that are missing from a folder.

    Args:
        generate: Function that generates images from prompts and seeds.
        plan: Which samples to generate.
        folder_format: Layout of the folder.
        out: Folder to write to.
        made_by: Description of model and sampler as JSON values.
        overwrite: Whether to replace samples of another plan, model or sampler.
        workers: This process among those that share the samples or prompts.
        quiet: Whether to hide the progress bar.

    Raises:
        ValueError: If the folder contains other samples and `overwrite` is false, naming the first
            difference and both values; if it contains files of unknown origin; or if `generate`
            does not return one 8-bit RGB image per prompt.
    """
    workers = workers or Workers()
    manifest = folder_format.manifest(out)
    stored = StoredSamples(
        out,
        {"made_by": made_by, "format": folder_format.name, **_describe(plan)},
        manifest,
        overwrite=overwrite,
        list_files=lambda values: _list_files(values, manifest, folder_format, out),
        workers=workers,
    )
    groups = _groups_of_rank(plan.groups(), workers, joined=folder_format.joins_samples)

    def finish_prompts() -> None:
        for group in groups:
            folder_format.finish_prompt(out, group)

    if stored.resumed:
        finish_prompts()
    missing = [
        (sample, group)
        for group in groups
        for sample in group
        if not any(stored.has(path) for path in folder_format.sample_files(out, sample))
    ]

    def save(item: tuple[PromptSample, list[PromptSample]], image: Tensor) -> None:
        sample, group = item
        folder_format.save(out, sample, image)
        folder_format.finish_prompt(out, group)

    stored.fill(
        missing,
        lambda batch: _generate(generate, [sample for sample, _ in batch]),
        save,
        batch_size=plan.batch_size,
        quiet=quiet,
        prepare=finish_prompts,
    )


def read_plan(manifest: Path) -> PromptPlan:
    """Read the plan of a folder of samples.

    Args:
        manifest: Description that `sample_prompts` wrote.

    Returns:
        The plan.

    Raises:
        ValueError: If the file is damaged.
    """
    return _parse_plan(load_json(manifest), manifest)


def read_complete_folder(plan: PromptPlan, folder_format: FolderFormat, out: Path) -> list[Path]:
    """List the image files of a complete folder, in the order of the prompts.

    Scorers ignore missing images silently, so that a folder must be checked before it is scored.

    Args:
        plan: Which samples the folder should contain.
        folder_format: Layout of the folder.
        out: Folder that `sample_prompts` wrote.

    Returns:
        Paths of the images.

    Raises:
        ValueError: If an image is missing.
    """
    paths = [path for group in plan.groups() for path in folder_format.image_paths(out, group)]
    check_complete(out, paths)
    return paths


def join_tiles(paths: Sequence[Path], columns: int) -> UInt8[Tensor, "height width 3"]:
    """Join images of equal size to a grid without gaps, filling the last row with black.

    Args:
        paths: Image files, in row-major order.
        columns: Images per row.

    Returns:
        The grid, in RGB.
    """
    import numpy as np
    from PIL import Image

    tiles = []
    for path in paths:
        with Image.open(path) as file:
            tiles.append(torch.from_numpy(np.array(file.convert("RGB"))))
    tiles += [torch.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [torch.cat(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    return torch.cat(rows)


def _groups_of_rank(
    groups: list[list[PromptSample]], workers: Workers, *, joined: bool
) -> list[list[PromptSample]]:
    """Return one process's prompts, or single samples unless those of a prompt are joined."""
    units = groups if joined else [[sample] for group in groups for sample in group]
    return list(strided_shard(units, workers.rank, workers.world_size))


def _generate(generate: GenerateImages, samples: Sequence[PromptSample]) -> Tensor:
    images = generate([sample.request.prompt for sample in samples], [s.seed for s in samples])
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[0] != len(samples):
        raise ValueError(
            f"generate returned {images.dtype} of shape {tuple(images.shape)} for {len(samples)} "
            f"prompts: it must return torch.uint8 of shape (prompts, height, width, 3)"
        )
    return images.cpu()


def _describe(plan: PromptPlan) -> dict[str, Any]:
    return {
        "count": len(plan.requests) * plan.samples_per_prompt,
        "samples_per_prompt": plan.samples_per_prompt,
        "first_seed": plan.first_seed,
        "requests": [asdict(request) for request in plan.requests],
    }


def _parse_plan(values: Any, manifest: Path) -> PromptPlan:
    # Fields that are not part of the plan are ignored.
    return validate(values, PromptPlan, manifest)


def _list_files(values: Any, manifest: Path, folder_format: FolderFormat, out: Path) -> list[Path]:
    """List the files of the samples that a manifest describes."""
    plan = _parse_plan(values, manifest)
    if values.get("format") != folder_format.name:
        raise ValueError(
            f"{out} contains samples in another format than {folder_format.name!r}, which cannot "
            f"be overwritten: choose another --out"
        )
    return [path for group in plan.groups() for path in folder_format.prompt_files(out, group)]
