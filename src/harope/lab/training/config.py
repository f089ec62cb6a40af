"""A complete training: what every task shares, and class-conditional diffusion."""

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harope.diffusion import FlowConfig, GaussianConfig, GaussianDiffusion, Process, RectifiedFlow
from harope.diffusion.generate import SamplingConfig
from harope.diffusion.sampling import sampler_for
from harope.lab.data.registry import DataConfig
from harope.models.dit.config import DiTConfig


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW or Muon: a linear warm-up, a constant rate, and a decay to 0 where it is asked for."""

    name: Literal["adamw", "muon"] = "adamw"
    """What updates the weight matrices of the blocks: AdamW, which is usual, or Muon with Nesterov
    momentum 0.95 (torch 2.9 or later). All other parameters, encodings included, are AdamW's in
    both cases. Muon's updates are scaled to the size of AdamW's, so that one `lr` serves both. It
    includes the projections of queries and keys: where they are packed with that of the values, the
    three are orthogonalised as one (3 width, width) matrix."""
    lr: float = 1e-4
    """Learning rate after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's moments."""
    weight_decay: float = 0.0
    """Decoupled decay; encodings, biases and norms are exempt."""
    warmup_steps: int = 0
    """Steps of the linear warm-up."""
    warmup_lr: float = 0.0
    """Rate that the warm-up starts from."""
    decay: float = 0.0
    """Share of the training, at its end, over which the rate falls to 0."""
    decay_shape: Literal["linear", "cosine"] = "linear"
    """How it falls: by a line, or by half a wave of the cosine."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None for no clipping."""
    qk_lr_multiplier: float = 1.0
    """Factor on the learning rate of the query and key projections; 1 is usual."""

    def __post_init__(self) -> None:
        for name in ("weight_decay", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} must not be negative")
        if self.lr <= 0 or not 0 <= self.decay <= 1:
            raise ValueError(f"lr {self.lr} must be positive and decay {self.decay} in [0, 1]")
        if self.qk_lr_multiplier <= 0:
            raise ValueError(
                f"qk_lr_multiplier {self.qk_lr_multiplier} must be positive: 1 is usual"
            )
        if not 0 <= self.warmup_lr <= self.lr:
            raise ValueError(f"warmup_lr {self.warmup_lr} must lie in [0, lr {self.lr}]")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0, 1, 2, ... of `steps`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        rising = self.warmup_lr + (self.lr - self.warmup_lr) * warm
        left = min(1.0, (steps - step) / (self.decay * steps)) if self.decay else 1.0
        cosine = self.decay_shape == "cosine"
        return min(rising, self.lr * ((1 - math.cos(math.pi * left)) / 2 if cosine else left))

    def first_decayed(self, steps: int) -> float:
        """Steps before the decay of a training of `steps` begins."""
        return steps * (1 - self.decay)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every training has; each task's configuration adds its model and its loss.

    A subclass names its `task`, what it learns from as `data`, and its model's encoding as
    `model.encoding`.
    """

    REPORTING: ClassVar[tuple[str, ...]] = (
        "steps",
        "num_workers",
        "log_every",
        "checkpoint_every",
        "keep_checkpoints",
        "sample_every",
    )
    """Fields that a resumed run may change: they do not alter the steps already taken."""

    recipe: str
    """Name of the recipe it came from."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How it is optimised."""
    steps: int
    """Optimizer steps in all."""
    batch_size: int
    """Images per optimizer step, over all processes."""
    accumulation: int = 1
    """Parts in which a batch is computed."""
    seed: int = 0
    """Decides initial weights, order of the data and every random number of the training."""
    ema_decay: float = 0.9999
    """Decay of the averaged weights, reached after a ramp of about 10 / (1 - decay) steps; with 0
    they are the weights."""
    regularization: float = 1e-4
    """Weight of the penalty on log singular values."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the network; weights stay float32."""
    compile: bool = False
    """Whether the network goes through torch.compile."""
    gradient_checkpointing: bool = False
    """Whether blocks are computed again in the backward pass, to save memory."""
    num_workers: int = 0
    """Processes that read data ahead, per training process."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; the last step always has one."""
    keep_checkpoints: int = 2
    """How many checkpoints stay on disk."""
    sample_every: int = 1000
    """Steps between reports, such as grids of samples or held-out accuracy; the last step always
    has one."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every", "checkpoint_every",
                     "keep_checkpoints", "sample_every"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulation "
                f"{self.accumulation}: choose parts of equal size"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay {self.ema_decay} must lie in [0, 1): 0.9999 is usual")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Class-conditional diffusion by a DiT."""

    task: ClassVar[str] = "class-conditional"
    """Not in its JSON: a configuration that names no task is of this one."""
    REPORTING: ClassVar[tuple[str, ...]] = (*RunConfig.REPORTING, "num_samples", "sampling")

    data: Annotated[DataConfig, Field(discriminator="kind")]
    """What it learns from."""
    model: DiTConfig
    """The network."""
    diffusion: Annotated[GaussianConfig | FlowConfig, Field(discriminator="kind")]
    """The process and its loss."""
    sampling: SamplingConfig
    """How its samples are drawn."""
    num_samples: int = 36
    """Pictures in a sample grid."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_samples < 1:
            raise ValueError(f"num_samples {self.num_samples} must be at least 1")
        process = self.create_process()
        needed = process.output_channels(self.model.in_channels)
        if self.model.out_channels != needed:
            raise ValueError(
                f"model.learned_variance is {self.model.learned_variance} but diffusion "
                f"{self.diffusion.kind!r} needs {needed} output channels for "
                f"{self.model.in_channels}: make model.learned_variance "
                f"{not self.model.learned_variance}"
            )
        sampler_for(self.sampling.sampler, process)

    def create_process(self) -> Process:
        """The diffusion process."""
        if isinstance(self.diffusion, GaussianConfig):
            return GaussianDiffusion(self.diffusion)
        return RectifiedFlow(self.diffusion)
