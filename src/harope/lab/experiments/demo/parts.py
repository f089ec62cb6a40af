"""The parts of the demo: each computes a result, which is stored as JSON, and writes images."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harope._utils.atomic import atomic_folder, write_json_atomic
from harope.diffusion import FlowConfig
from harope.diffusion.generate import SamplingConfig, generate
from harope.integrations import fold, install
from harope.lab.analysis.attention import measure_attention
from harope.lab.analysis.load import load_inspected_model
from harope.lab.analysis.maps import draw_attention
from harope.lab.analysis.matrices import identity_distance
from harope.lab.data.image_io import save_grid
from harope.lab.data.labelled.scenes import ScenesDataset
from harope.lab.evals.scenes import folder_scores, scene_labels
from harope.lab.experiments.demo.config import DemoConfig
from harope.lab.experiments.demo.matrices import held_out_losses, train_matrices
from harope.lab.experiments.demo.progress import DemoProgress
from harope.lab.experiments.demo.results import (
    Costs,
    Digits,
    HeadChange,
    Heads,
    Matrices,
    Pictures,
    ReleasedScores,
)
from harope.lab.metrics.intervals import Mean
from harope.lab.recipes.digits import digits_dit
from harope.lab.sampling.class_folder import FolderPlan, sample_folder
from harope.lab.sampling.runs import TRAIN_FILE, ClassGenerator, load_class_generator
from harope.lab.scenes import COLORS, KINDS, encode_class
from harope.lab.training.initial_weights import released_path
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.serialization import to_json
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.models.dit import DiT
from harope.rope import encoding_parameters

RELEASED = {"axial": "scenes-dit-axial", "harope-v1": "scenes-dit-harope"}
"""Name of each released model, by its encoding."""
SIZE = 32
"""Side of the scenes in pixels."""
NOISE = "noise 0.5"
"""Noise level at which attention is shown."""
SHOWN_HEADS = 5
"""Heads whose receptive fields are shown."""
EIGHTHS = (1, 2, 3, 4, 6, 8)
"""Eighths of the training on digits after which samples are shown."""
TRAINING_SCENES, HELD_OUT_SCENES = 100, 101
"""Seeds of the scenes. The released models were trained on those of seed 0."""


class Demo:
    """The parts of a demo, which share models and the folder.

    Args:
        config: Options.
        out: Folder of the demo.
        progress: Where progress is reported.
    """

    def __init__(self, config: DemoConfig, out: Path, progress: DemoProgress) -> None:
        self.config, self.out, self._progress = config, out, progress

    @cached_property
    def generator(self) -> ClassGenerator:
        """The released model with axial RoPE, with its process and sampler."""
        generator = load_class_generator(released_folder("axial"))
        return generator.with_sampling(num_steps=self.config.num_steps)

    @property
    def labels(self) -> list[int]:
        """Classes of the pictures: every kind, in colours and numbers that differ."""
        return [
            encode_class(KINDS[n % len(KINDS)], list(COLORS)[n % len(COLORS)], 1 + 5 * n % 6)
            for n in range(self.config.pictures)
        ]

    def pictures(self) -> Pictures:
        """Sample the released model, install HARoPE in it, and sample it again.

        Returns:
            Whether the pictures are equal.
        """
        before = self._sample(DiT.from_pretrained(released_folder("axial")), "rope")
        installed = self._sample(install_harope(), "installed")
        return Pictures(torch.equal(before, installed))

    def matrices(self) -> Matrices:
        """Train the matrices, and save the model with them and with them folded.

        Returns:
            What the training changed.
        """
        config, model, process = self.config, install_harope(), self.generator.process
        held_out = ScenesDataset(SIZE, HELD_OUT_SCENES)
        before = held_out_losses(model, process, held_out, config.held_out)
        train_matrices(
            model,
            process,
            ScenesDataset(SIZE, TRAINING_SCENES),
            steps=config.steps,
            batch_size=config.batch_size,
            lr=config.lr,
            on_step=lambda step: self._progress.update(step, config.steps, "step"),
        )
        after = held_out_losses(model, process, held_out, config.held_out)
        pairs = [block.attn.harope.matrices() for block in model.layers]
        distances = torch.cat([identity_distance(pair[0].detach()) for pair in pairs if pair])
        count = sum(parameter.numel() for parameter in encoding_parameters(model))
        total = sum(parameter.numel() for parameter in model.parameters())
        self._save(model, "harope")
        fold(model)
        self._save(model, "folded")
        self._sample(model, "folded")
        return Matrices(
            parameters=count,
            all_parameters=total,
            loss_before=float(before.mean()),
            loss_after=float(after.mean()),
            difference=Mean.of((after - before).tolist()),
            distance=float(distances.median()),
        )

    def heads(self) -> Heads:
        """Measure the attention of all heads before and after, and plot those that changed most.

        Returns:
            How far heads look.
        """
        before, after = (
            measure_attention(load_inspected_model(folder), self.config.images)[NOISE]
            for folder in (released_folder("axial"), self.out / "harope")
        )
        change = (after.maps - before.maps).abs().mean(dim=(-2, -1))
        heads = change.shape[1]
        most = change.flatten().argsort(descending=True)[:SHOWN_HEADS].sort().values.tolist()
        places = [divmod(index, heads) for index in most]
        rope, with_matrices = (
            torch.stack([side.maps[layer, head] for layer, head in places])
            for side in (before, after)
        )
        draw_attention(
            torch.stack([rope, with_matrices, with_matrices / rope]),
            "Mean attention by offset",
            self.out / "heads.svg",
            rows=("RoPE", "HARoPE", "ratio"),
            columns=[f"layer {layer}\nhead {head}" for layer, head in places],
        )
        shown = [
            HeadChange(
                layer, head, float(before.distance[layer, head]), float(after.distance[layer, head])
            )
            for layer, head in places
        ]
        return Heads(shown, float((after.distance - before.distance).abs().median()))

    @torch.no_grad()
    def costs(self) -> Costs:
        """Measure forward passes of the model with RoPE, with matrices and folded, in turns.

        Returns:
            The times.
        """
        models = {
            "rope": DiT.from_pretrained(released_folder("axial")),
            "harope": DiT.from_pretrained(self.out / "harope"),
            "folded": DiT.from_pretrained(self.out / "folded"),
        }
        labels = torch.tensor(self.labels)
        x = torch.randn(len(labels), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        t = torch.full((len(labels),), 500.0)
        outputs = {name: model(x, t, labels) for name, model in models.items()}
        seconds: dict[str, list[float]] = {name: [] for name in models}
        for repeat in range(self.config.repeats):
            for name, model in models.items():
                started = time.perf_counter()
                model(x, t, labels)
                seconds[name].append(time.perf_counter() - started)
            self._progress.update(repeat + 1, self.config.repeats, "round")
        rounding = (outputs["folded"] - outputs["harope"]).abs().max()
        return Costs(len(labels), seconds, float(rounding))

    def digits(self) -> Digits:
        """Train a small model on digits from nothing, with samples at a few moments.

        Returns:
            Steps and times of the samples.
        """
        last, run = self.config.digit_steps, self.out / "digits"
        every = max(1, last // EIGHTHS[-1])
        steps = sorted({min(last, eighth * every) for eighth in EIGHTHS[:-1]} | {last})
        train(digits_config(last, every, self.config.num_steps), run)
        lines = {line["step"]: line for line in read_metrics(run)}
        return Digits(
            steps=steps,
            seconds=[lines[moment]["seconds"] for moment in steps],
            losses=[lines[moment]["loss"] for moment in steps],
            parameters=load_class_generator(run).parameters,
        )

    def scores(self) -> ReleasedScores:
        """Sample both released models, and let the scenes reader score the samples.

        Returns:
            Scores by encoding.
        """
        labels = scene_labels(self.config.rounds)
        plan = FolderPlan(shape=(3, SIZE, SIZE), labels=labels, count=len(labels), batch_size=30)
        columns = {}
        for number, encoding in enumerate(RELEASED, 1):
            generator = load_class_generator(released_folder(encoding))
            folder = sample_folder(
                generator.with_sampling(num_steps=self.config.num_steps),
                plan,
                self.out / "samples" / encoding,
                quiet=True,
            )
            columns[encoding] = folder_scores(folder)["samples"]
            self._progress.update(number, len(RELEASED), "model")
        return ReleasedScores(columns)

    def _sample(self, model: DiT, name: str) -> Float[Tensor, "batch 3 height width"]:
        """Sample the pictures, and write them as one PNG file."""
        samples = generate(
            model.eval(),
            self.generator.process,
            shape=(3, SIZE, SIZE),
            labels=self.labels,
            null_class=model.config.null_class,
            seeds=range(len(self.labels)),
            config=self.generator.sampling,
        )
        save_grid(samples, picture_path(self.out, name), columns=4, scale=3)
        return samples

    def _save(self, model: DiT, name: str) -> None:
        """Save a model so that `harope sample` and `harope inspect` read it."""
        trained = self.generator.train
        assert trained is not None
        with atomic_folder(self.out / name) as folder:
            model.save_pretrained(folder)
            described = replace(trained, model=replace(model.config, input_size=None))
            write_json_atomic(folder / TRAIN_FILE, to_json(described))


def released_folder(encoding: str) -> Path:
    """Return the folder of a released model.

    Args:
        encoding: A key of `RELEASED`.

    Returns:
        The folder in the installed package.
    """
    return released_path(RELEASED[encoding])


def install_harope() -> DiT:
    """Load the released model with axial RoPE, and install HARoPE in it, with A = I.

    Returns:
        The model in eval mode.
    """
    model = DiT.from_pretrained(released_folder("axial"))
    install(model, "harope")
    return model


def digits_config(steps: int, every: int, num_steps: int) -> TrainConfig:
    """Return the configuration of a small model that learns digits in less than a minute.

    Args:
        steps: Number of training steps.
        every: Steps between samples.
        num_steps: Number of sampling steps.

    Returns:
        The recipe `digits-dit` with a smaller network and rectified flow.
    """
    recipe = digits_dit()
    return replace(
        recipe,
        model=replace(
            recipe.model,
            depth=3,
            width=96,
            num_heads=3,
            encoding="harope",
            learned_variance=False,
        ),
        diffusion=FlowConfig(prediction="data"),
        sampling=SamplingConfig(sampler="heun", num_steps=num_steps, guidance=2.0),
        optimizer=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99), warmup_steps=20, clip_norm=1.0),
        steps=steps,
        ema_decay=0.98,
        num_samples=16,
        log_every=every,
        checkpoint_every=every,
        sample_every=every,
    )


def picture_path(out: Path, name: str) -> Path:
    """Return the path of the pictures of a model.

    Args:
        out: Folder of the demo.
        name: "rope", "installed" or "folded".

    Returns:
        Path of the PNG file.
    """
    return out / f"pictures-{name}.png"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the demo."""

    result: type
    """Class of its result."""
    compute: Callable[[Demo], Any]
    """Computes the result, a dataclass, and writes images."""
    title: str
    """What it does, for lines of progress and the page."""


PARTS = {
    "pictures": Part(
        result=Pictures,
        compute=Demo.pictures,
        title="sampling a released model, before and after HARoPE is installed",
    ),
    "matrices": Part(
        result=Matrices, compute=Demo.matrices, title="training the matrices of HARoPE"
    ),
    "heads": Part(result=Heads, compute=Demo.heads, title="measuring where the heads look"),
    "costs": Part(result=Costs, compute=Demo.costs, title="measuring times"),
    "digits": Part(
        result=Digits, compute=Demo.digits, title="training a model on digits from nothing"
    ),
    "scores": Part(
        result=ReleasedScores, compute=Demo.scores, title="scoring the two released models"
    ),
}
"""The parts by name, in order."""


def estimated_seconds(config: DemoConfig) -> dict[str, float]:
    """Estimate the duration of every part on two cores without other load.

    Args:
        config: Options of the demo.

    Returns:
        Seconds by part.
    """
    sample = 0.015 * config.num_steps
    return {
        "pictures": 3 + 2 * config.pictures * sample,
        "matrices": 0.006 * config.steps * config.batch_size + config.pictures * sample + 1,
        "heads": 1 + 0.1 * config.images,
        "costs": 1 + 0.15 * config.repeats,
        "digits": 4 + 0.05 * config.digit_steps,
        "scores": 3 + 120 * config.rounds * sample,
    }
