"""Commands whose files must survive faults, and what of their files counts."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from harope.cli.main import main
from harope.lab.data.labelled.digits import DigitsDataset
from harope.lab.data.latents.encode import encode_images
from harope.lab.experiments.compare.job import Job
from harope.lab.experiments.compare.job import main as run_job_file
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.recipes import get_recipe
from harope.lab.text.cache import EmbeddingCache, fill_cache
from harope.lab.text.encoder import TextEmbeddings, TextEncoder
from soak.faults import Work

Digest = Callable[[Path], Any]

STEPS = ("--checkpoint_every", "1", "--log_every", "1", "--quiet")


@dataclass(frozen=True)
class Scenario:
    """A command, and what must be the same whether or not it was interrupted before."""

    name: str
    """Row of the table."""
    prepare: Callable[[Path], None]
    """Makes the inputs in a folder."""
    work: Callable[[Path, Path], Work]
    """Returns the command, for the folders of inputs and outputs."""
    digest: Digest
    """Reads the folder of outputs."""


def _nothing(folder: Path) -> None:
    """No inputs."""


def as_command(function: Work) -> Work:
    """Return a function of the library as a command: errors are printed as one line."""

    def work() -> int:
        try:
            return function()
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return work


def training(recipe: str, steps: int, sample_every: int) -> Scenario:
    """Return the training of a recipe's smoke setting."""

    def work(inputs: Path, root: Path) -> Work:
        counts = ["--steps", str(steps), "--sample_every", str(sample_every), *STEPS]
        return lambda: main(["train", recipe, "--smoke", "--out", str(root / "run"), *counts])

    return Scenario(f"train {recipe}", _nothing, work, lambda root: run_digest(root / "run"))


def _sampling() -> Scenario:
    def prepare(inputs: Path) -> None:
        out = ["--out", str(inputs / "run"), "--steps", "2", "--sample_every", "2", *STEPS]
        assert main(["train", "digits-dit", "--smoke", *out]) == 0

    def work(inputs: Path, root: Path) -> Work:
        out = ["--out", str(root / "samples"), "--grid", str(root / "grid.png")]
        count = ["--count", "5", "--batch-size", "2", "--npz", str(root / "samples.npz"), "--quiet"]
        return lambda: main(["sample", str(inputs / "run"), *out, *count])

    return Scenario("sample", prepare, work, tree_digest)


def _comparison() -> Scenario:
    def work(inputs: Path, root: Path) -> Work:
        recipe = get_recipe("digits-vit").smoke(inputs / "data")
        config = replace(recipe, steps=2, checkpoint_every=1, log_every=1, sample_every=2)
        job = Job(name="a", config=config, scoring=SampleScoreConfig(samples=2))

        # The comparison writes the file of the job, and prints the last line of its log.
        return as_command(lambda: run_job_file(job.write(root)))

    def digest(root: Path) -> Any:
        measures = json.loads((root / "runs/a/measures.json").read_text())["measures"]
        return {"measures": measures, **run_digest(root / "runs/a")}

    return Scenario("run of compare", _nothing, work, digest)


class _TinyVae:
    """An autoencoder of two lines with the interface of diffusers' AutoencoderKL."""

    dtype, device = torch.float32, torch.device("cpu")

    class config(dict):  # the name of diffusers' attribute
        scaling_factor, shift_factor = 1.0, 0.0
        block_out_channels, in_channels, latent_channels = (1, 1), 1, 2

    config = config(_name_or_path="vae", shift_factor=0.0)  # type: ignore[assignment,misc]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"weight": torch.ones(1)}

    def encode(self, x: torch.Tensor) -> Any:
        mean = torch.nn.functional.avg_pool2d(x, 2).repeat(1, 2, 1, 1)
        latent = type("Latent", (), {"mean": mean, "std": torch.ones_like(mean)})
        return type("Output", (), {"latent_dist": latent})


def _encoding(form: Any) -> Scenario:
    def work(inputs: Path, root: Path) -> Work:
        def encode() -> int:
            vae: Any = _TinyVae()
            encode_images(
                DigitsDataset(split="test"),
                vae,
                root / "latents",
                form=form,
                batch_size=60,
                shard_size=120,
            )
            return 0

        return as_command(encode)

    return Scenario(f"encode {form}", _nothing, work, tree_digest)


class _LengthEncoder(TextEncoder):
    """A text encoder whose states are the length of the caption."""

    identity: ClassVar = {"kind": "length"}  # type: ignore[misc]  # a property of the base class
    length, channels, pooled_channels = 3, 4, 4

    def encode(self, captions: list[str]) -> TextEmbeddings:
        states = torch.stack([torch.full((3, 4), float(len(text))) for text in captions])
        return TextEmbeddings(states, states[:, 0], torch.ones(len(captions), 3, dtype=torch.bool))


def _text_cache() -> Scenario:
    captions = ["a" * length for length in range(1, 16)]

    def work(inputs: Path, root: Path) -> Work:
        def fill() -> int:
            encoder: Any = _LengthEncoder()
            fill_cache(root / "cache", encoder, captions, batch_size=2, rows_per_file=4)
            return 0

        return as_command(fill)

    def digest(root: Path) -> Any:
        cache = EmbeddingCache(root / "cache")
        return {text: float(cache.read([text]).states.sum()) for text in captions}

    return Scenario("text cache", _nothing, work, digest)


def _evaluation() -> Scenario:
    def prepare(inputs: Path) -> None:
        random = np.random.default_rng(0)
        for name in ("samples", "reference"):
            (inputs / name).mkdir()
            for index in range(6):
                pixels = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(inputs / name / f"{index}.png")

    def work(inputs: Path, root: Path) -> Work:
        images = [str(inputs / "samples"), "--reference", str(inputs / "reference")]
        options = ["--extractor", "lite0", "--metrics", "fid", "--json", str(root / "scores.json")]
        stored = ["--save-statistics", str(root / "statistics.npz")]
        return lambda: main(["evaluate", "distances", *images, *options, *stored])

    return Scenario("evaluate distances", prepare, work, tree_digest)


def run_digest(run: Path) -> dict[str, Any]:
    """Return what matters of a finished training: weights, moments, metrics, samples."""
    checkpoints = sorted(
        folder
        for folder in (run / "checkpoints").iterdir()
        if re.fullmatch(r"step-\d{8}", folder.name)
    )
    found: dict[str, Any] = {"checkpoints": [folder.name for folder in checkpoints]}
    for path in sorted(checkpoints[-1].glob("*.safetensors")):
        found[path.name] = _tensors_digest(path)
    state = json.loads((checkpoints[-1] / "state.json").read_text())
    found["state"] = {key: state[key] for key in ("step", "images", "ema_updates")}
    measured = ("seconds", "images_per_second", "data_wait", "memory_gib")
    found["metrics"] = [
        {key: value for key, value in json.loads(line).items() if key not in measured}
        for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    found["samples"] = {path.name: _sha(path) for path in sorted((run / "samples").glob("*.png"))}
    return found


def tree_digest(root: Path) -> dict[str, str]:
    """Return the digest of every file that is not hidden."""
    return {
        str(path.relative_to(root)): _sha(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    }


def litter(root: Path) -> list[str]:
    """Return temporary files and folders that were left behind."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.partial"))


def _tensors_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with safe_open(path, framework="np") as file:
        for name in sorted(file.keys()):  # safe_open has no other way to list names
            digest.update(name.encode() + file.get_tensor(name).tobytes())
    return digest.hexdigest()


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


SCENARIOS = (
    training("digits-dit", 4, 2),
    training("digits-vit", 3, 3),
    training("scenes-mmdit", 2, 2),
    _comparison(),
    _sampling(),
    _encoding("shards"),
    _encoding("npy"),
    _text_cache(),
    _evaluation(),
)
