"""The parts of the demo: each computes numbers, which are kept as JSON, and writes images."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

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
from harope.lab.metrics.intervals import Mean, Scores
from harope.lab.recipes.digits import digits_dit
from harope.lab.sampling.class_folder import FolderPlan, sample_folder
from harope.lab.sampling.runs import TRAIN_FILE, ClassGenerator, load_class_generator
from harope.lab.scenes import COLORS, KINDS, encode_class
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import train
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.serialization import to_json
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.models.dit import DiT
from harope.rope import encoding_parameters

RELEASED = {"axial": "scenes-dit-axial", "harope-v1": "scenes-dit-harope"}
"""Folder in `harope/lab/checkpoints` of each released model, by its encoding."""
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


@dataclass(frozen=True)
class Pictures:
    """Samples of the released model before and after HARoPE was installed in it."""

    identical: bool
    """Whether all values are equal, bit for bit."""


@dataclass(frozen=True)
class Matrices:
    """The training of the matrices."""

    parameters: int
    """Trained parameters, those of the matrices."""
    all_parameters: int
    """All parameters of the model."""
    loss_before: float
    """Mean loss on held-out scenes with A = I."""
    loss_after: float
    """Mean loss on the same scenes, at the same times and noises, after the training."""
    difference: Mean
    """Mean of the differences of each scene's loss."""
    distance: float
    """Median over the heads of |A - I| / |I|."""


@dataclass(frozen=True)
class HeadChange:
    """How far a head looks before and after the training."""

    layer: int
    """Layer of the head, from 0."""
    head: int
    """Head of the layer, from 0."""
    before: float
    """Mean attention distance in tokens with A = I."""
    after: float
    """Mean attention distance in tokens after the training."""


@dataclass(frozen=True)
class Heads:
    """Receptive fields before and after the training of the matrices."""

    shown: list[HeadChange]
    """The heads that changed most, first in each layer of which one is shown."""
    moved: float
    """Median over all heads of the change of the mean attention distance in tokens."""


@dataclass(frozen=True)
class Costs:
    """Times of a forward pass, measured in turns."""

    batch_size: int
    """Images of a forward pass."""
    seconds: dict[str, list[float]]
    """Times in seconds: of the released model ("rope"), with matrices ("harope"), folded
    ("folded")."""
    rounding: float
    """Largest difference between the outputs of the model before and after folding."""

    def median(self, name: str) -> float:
        """Return the median time of a model.

        Args:
            name: A key of `seconds`.

        Returns:
            Seconds.
        """
        return statistics.median(self.seconds[name])

    def ratios(self, name: str) -> tuple[float, float, float]:
        """Return quartiles of a model's time over that of the released model in the same turn.

        Args:
            name: A key of `seconds`.

        Returns:
            Lower quartile, median and upper quartile over the turns.
        """
        pairs = zip(self.seconds[name], self.seconds["rope"], strict=True)
        ratios = torch.tensor([mine / base for mine, base in pairs])
        low, middle, high = ratios.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        return low, middle, high


@dataclass(frozen=True)
class Digits:
    """The training of a small model on digits."""

    steps: list[int]
    """Steps after which samples are shown."""
    seconds: list[float]
    """Seconds from the start of the training until each of them."""
    losses: list[float]
    """Training loss before each of them."""
    parameters: int
    """Parameters of the model."""


@dataclass(frozen=True)
class ReleasedScores:
    """Scores of the two released models."""

    columns: dict[str, Scores]
    """Scores by encoding."""


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
    return Path(str(files("harope.lab").joinpath("checkpoints", RELEASED[encoding])))


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


PARTS: dict[str, tuple[type, Callable[[Demo], object], str]] = {
    "pictures": (
        Pictures,
        Demo.pictures,
        "sampling a released model, before and after HARoPE is installed",
    ),
    "matrices": (Matrices, Demo.matrices, "training the matrices of HARoPE"),
    "heads": (Heads, Demo.heads, "measuring where the heads look"),
    "costs": (Costs, Demo.costs, "measuring times"),
    "digits": (Digits, Demo.digits, "training a model on digits from nothing"),
    "scores": (ReleasedScores, Demo.scores, "scoring the two released models"),
}
"""Result, function and title of every part, in order."""


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


def as_json(result: object) -> dict[str, object]:
    """Return the result of a part as JSON values.

    Args:
        result: One of the results of this module.

    Returns:
        Its fields.
    """
    return asdict(result)  # type: ignore[call-overload]
