"""Pictures of prompts in a benchmark's folder, drawn by one process or many, resumable by picture.

Sample number `index` over all prompts depends on its prompt and the seed `first_seed + index`
alone, so that neither batches nor the number of processes change it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from harope.diffusion.generate import batches
from harope.lab.data.image_io import save_png
from harope.lab.sampling.prompts import PromptRequest

MANIFEST_FILE = "prompts.json"

Draw = Callable[[list[str], list[int]], UInt8[Tensor, "batch height width 3"]]
"""Pictures of prompts, one seed each; a picture depends on its prompt and seed alone."""


@dataclass(frozen=True)
class PromptSample:
    """One picture to draw."""

    index: int
    """Its number over all prompts."""
    index_in_prompt: int
    """Its number among its prompt's samples."""
    request: PromptRequest
    seed: int


@dataclass(frozen=True, kw_only=True)
class PromptPlan:
    """Which samples a folder shall hold."""

    requests: tuple[PromptRequest, ...]
    """The prompts, in order."""
    samples_per_prompt: int
    """Pictures of each."""
    first_seed: int = 0
    """Seed of the first sample of the first prompt."""
    batch_size: int = 4
    """Samples drawn at once, of one prompt or several; it does not change them."""

    def __post_init__(self) -> None:
        if self.samples_per_prompt < 1 or self.batch_size < 1:
            raise ValueError(
                f"samples_per_prompt {self.samples_per_prompt} and batch_size {self.batch_size} "
                f"must be at least 1"
            )
        if not self.requests:
            raise ValueError("requests is empty: pass at least one prompt")

    def groups(self) -> list[list[PromptSample]]:
        """The samples of each prompt."""
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
    """Where one benchmark's scorer looks for pictures."""

    @property
    def joins_samples(self) -> bool:
        """Whether something is made of all samples of a prompt: one process draws them then."""
        ...

    def manifest(self, out: Path) -> Path:
        """The file that says how the pictures were made, where the scorer does not see it."""
        ...

    def has(self, out: Path, sample: PromptSample) -> bool:
        """Whether the sample need not be drawn."""
        ...

    def save(self, out: Path, sample: PromptSample, image: UInt8[Tensor, "height width 3"]) -> None:
        """Keep a sample's picture."""
        ...

    def finish_prompt(self, out: Path, group: Sequence[PromptSample]) -> None:
        """Write what else belongs to a prompt, as far as its pictures allow; again is the same."""
        ...

    def image_paths(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        """The files that the scorer reads for a prompt."""
        ...


@dataclass(frozen=True)
class FlatFolder:
    """`{index:06d}.png` over all prompts, as of every other folder of samples."""

    joins_samples = False

    def manifest(self, out: Path) -> Path:
        """Beside the pictures."""
        return out / MANIFEST_FILE

    def has(self, out: Path, sample: PromptSample) -> bool:
        """Whether the picture is there."""
        return self._path(out, sample).exists()

    def save(self, out: Path, sample: PromptSample, image: UInt8[Tensor, "height width 3"]) -> None:
        """Write the picture."""
        save_png(image, self._path(out, sample))

    def finish_prompt(self, out: Path, group: Sequence[PromptSample]) -> None:
        """Nothing else belongs to a prompt."""

    def image_paths(self, out: Path, group: Sequence[PromptSample]) -> list[Path]:
        """One file per sample."""
        return [self._path(out, sample) for sample in group]

    def _path(self, out: Path, sample: PromptSample) -> Path:
        return out / f"{sample.index:06d}.png"


def sample_prompts(
    draw: Draw,
    plan: PromptPlan,
    folder_format: FolderFormat,
    out: Path,
    *,
    made_by: dict[str, Any],
    rank: int = 0,
    world_size: int = 1,
    quiet: bool = False,
) -> None:
    """Draw the samples that `out` lacks, process `rank` its share of `world_size`.

    `made_by` describes model and sampler in JSON values. Raises ValueError when the folder holds
    pictures of another plan or of unknown origin, or when `draw` gives something else than one
    picture in bytes per prompt.
    """
    _open_folder(folder_format, out, {"made_by": made_by, **_describe(plan)})
    mine = _share(plan.groups(), rank, world_size, joins_samples=folder_format.joins_samples)
    for group in mine:
        folder_format.finish_prompt(out, group)
    missing = [
        (sample, group) for group in mine for sample in group if not folder_format.has(out, sample)
    ]
    with tqdm(total=len(missing), desc="samples", disable=quiet or rank > 0) as bar:
        for chunk in batches(len(missing), plan.batch_size):
            drawn = missing[chunk.start : chunk.stop]
            images = _draw(draw, [sample for sample, _ in drawn])
            for (sample, group), image in zip(drawn, images, strict=True):
                folder_format.save(out, sample, image)
                folder_format.finish_prompt(out, group)
            bar.update(len(drawn))


def read_complete_folder(plan: PromptPlan, folder_format: FolderFormat, out: Path) -> list[Path]:
    """The pictures that the scorer reads, in the order of the prompts.

    Raises ValueError when one is missing: scorers pass over it without a word.
    """
    paths = [path for group in plan.groups() for path in folder_format.image_paths(out, group)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise ValueError(
            f"{out} lacks {len(missing)} of {len(paths)} pictures, first {missing[0].name}: "
            f"run the same `harope sample` again to complete it"
        )
    return paths


def join_tiles(paths: Sequence[Path], columns: int) -> UInt8[Tensor, "height width 3"]:
    """Pictures of one size edge to edge, row by row, the last row filled up in black."""
    import numpy as np
    from PIL import Image

    tiles = []
    for path in paths:
        with Image.open(path) as file:
            tiles.append(torch.from_numpy(np.array(file.convert("RGB"))))
    tiles += [torch.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [torch.cat(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    return torch.cat(rows)


def write_text(path: Path, text: str) -> None:
    """Write a file beside and rename it: what exists is whole, whoever else writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    beside.write_text(text, encoding="utf-8")
    beside.rename(path)


def _share(
    groups: list[list[PromptSample]], rank: int, world_size: int, *, joins_samples: bool
) -> list[list[PromptSample]]:
    """Every `world_size`-th prompt where its samples are joined, else every such sample."""
    units = groups if joins_samples else [[sample] for group in groups for sample in group]
    return units[rank::world_size]


def _draw(draw: Draw, samples: Sequence[PromptSample]) -> Tensor:
    images = draw([sample.request.prompt for sample in samples], [s.seed for s in samples])
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[0] != len(samples):
        raise ValueError(
            f"draw gave {tuple(images.shape)} of {images.dtype} for {len(samples)} prompts: it "
            f"must give (prompts, height, width, 3) of torch.uint8"
        )
    return images.cpu()


def _describe(plan: PromptPlan) -> dict[str, Any]:
    return {
        "count": len(plan.requests) * plan.samples_per_prompt,
        "samples_per_prompt": plan.samples_per_prompt,
        "first_seed": plan.first_seed,
        "requests": [asdict(request) for request in plan.requests],
    }


def _open_folder(folder_format: FolderFormat, out: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, or compare; the first process to come writes it for all.

    The pictures are looked for before the manifest: it is written first.
    """
    path, text = folder_format.manifest(out), json.dumps(manifest, indent=1)
    busy = out.exists() and any(
        not entry.name.startswith(".") and entry != path for entry in out.iterdir()
    )
    if path.exists():
        if json.loads(path.read_text()) != json.loads(text):
            raise ValueError(f"{out} holds samples of another plan or model: choose another --out")
    elif busy:
        raise ValueError(f"{out} holds files but no {path} says how: choose another --out")
    else:
        write_text(path, text + "\n")
    out.mkdir(parents=True, exist_ok=True)
