"""The interface of a training task, the configuration that all tasks share, and their helpers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope._utils.devices import copy_to_device
from harope._utils.field_checks import (
    AT_LEAST_ONE,
    FRACTION,
    NOT_NEGATIVE,
    check_finite_fields,
    check_range,
)
from harope.diffusion import Process
from harope.lab.data.dataset import Dataset, LabelledDataset
from harope.lab.training.execution import Precision, autocast, inference_precision
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.trackers import TrackerName
from harope.rope import PositionalEncoding, parameter_groups
from harope.rope.encoding import batched_regularization

TensorBatch: TypeAlias = tuple[Tensor, ...]
"""A batch of training data: tensors whose first axis is the batch."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Configuration fields that all trainings share; each task's subclass adds model and loss.

    A subclass has the fields `task`, its name, `data`, the training data, and `model`, whose
    encoding is `model.encoding`.
    """

    REPORTING: ClassVar[tuple[str, ...]] = (
        "steps",
        "compile",
        "num_workers",
        "parallel",
        "log_every",
        "checkpoint_every",
        "checkpoint_format",
        "keep_checkpoints",
        "sample_every",
        "report_to",
        "push_to_hub",
    )
    """Fields that a resumed run may change, because the steps done before do not depend on them."""

    recipe: str
    """Name of the recipe."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer and learning rate."""
    steps: int
    """Number of optimizer steps."""
    batch_size: int
    """Images per optimizer step, summed over all processes."""
    accumulation: int = 1
    """Number of micro-batches per step, whose gradients are accumulated."""
    init: str | None = None
    """Model whose weights the training starts from, with a new optimizer and at step 0, while
    `--from` goes on with both: run or checkpoint folder (EMA weights), `.pt` file of
    facebookresearch/DiT, Hugging Face Hub id, or a released model such as scenes-dit-axial. Sizes
    of the model that are not given are those of the source. None: new weights."""
    seed: int = 0
    """Seed of initial weights, order of the data and all other random numbers of the training."""
    ema_decay: float = 0.9999
    """Decay of the EMA weights, reached after a ramp of about 10 / (1 - decay) steps; 0: the EMA
    weights equal the weights."""
    regularization: float = 1e-4
    """Weight of the penalty on the log singular values of encodings."""
    precision: Precision = "no"
    """Mixed precision of the forward pass; weights are float32."""
    compile: bool | Literal["auto"] = "auto"
    """Whether to compile the network with torch.compile; auto: on CUDA devices, if Triton and a C
    compiler are there, and not on CPUs."""
    gradient_checkpointing: bool = False
    """Whether to recompute blocks in the backward pass, to save memory."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the model. "ddp": every one has all of it. "fsdp": parameters,
    gradients, moments and EMA weights are divided among them, which takes less memory and more
    communication."""
    num_workers: int | Literal["auto"] = "auto"
    """Number of processes that prefetch data, per training process; auto: none on CPUs, and up to 8
    on GPUs."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; there is always one after the last step."""
    checkpoint_format: Literal["whole", "sharded"] = "whole"
    """"whole": the main process writes each checkpoint while the others wait. "sharded": every
    process writes its part in the background; the checkpoint of the last step is whole as well."""
    keep_checkpoints: int = 2
    """Number of checkpoints to keep on disk."""
    sample_every: int = 1000
    """Steps between reports, such as sample grids or held-out accuracy; there is always one after
    the last step."""
    report_to: tuple[TrackerName, ...] = ("tensorboard",)
    """Trackers that losses, sample grids and the configuration are logged to, besides
    metrics.jsonl; empty for none."""
    push_to_hub: str | None = None
    """Repository of the Hugging Face Hub, such as "user/model", that the EMA weights and a model
    card are uploaded to after the last step."""

    def __post_init__(self) -> None:
        check_finite_fields(self)
        if len(set(self.report_to)) < len(self.report_to):
            raise ValueError(
                f"report_to {', '.join(self.report_to)} names a tracker twice: name each once"
            )
        check_range(self, AT_LEAST_ONE, "steps", "batch_size", "accumulation", "log_every")
        check_range(self, AT_LEAST_ONE, "checkpoint_every", "keep_checkpoints", "sample_every")
        check_range(self, NOT_NEGATIVE, "seed", "regularization")
        if self.num_workers != "auto":
            check_range(self, NOT_NEGATIVE, "num_workers")
        check_range(self, FRACTION, "ema_decay")
        if self.parallel == "fsdp":
            self._check_fsdp()
        if self.seed >= 2**63:
            raise ValueError(f"seed {self.seed} has more than 63 bits: choose a smaller one")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulation "
                f"{self.accumulation}: choose parts of equal size"
            )

    def _check_fsdp(self) -> None:
        """Raise ValueError for fields that cannot be combined with FSDP."""
        if self.precision == "fp16":
            raise ValueError(
                "parallel is fsdp, but precision fp16 scales the gradients of complete tensors: "
                "set precision to bf16, or parallel to ddp"
            )
        if (factor := self.optimizer.qk_lr_multiplier) != 1:
            raise ValueError(
                f"parallel is fsdp, but optimizer.qk_lr_multiplier {factor} changes rows of "
                f"complete projections: set it to 1, or parallel to ddp"
            )


class Task(ABC):
    """Everything specific to what is trained: a model, its training data and its loss.

    The training loop creates one task per process and calls it for all that depends on the model.

    Args:
        config: Configuration of the training.
        source: Training data.
        model: Model on its device. The loop wraps it, optimises its parameters that require a
            gradient, and keeps their moving average.
        title: Label of the progress bar.
    """

    config_type: ClassVar[type[RunConfig]]
    """Class of its configuration, whose `task` names it in files."""

    def __init__(
        self, config: RunConfig, source: Dataset[Any], model: nn.Module, *, title: str
    ) -> None:
        self.config = config
        self.source = source
        self.model = model
        self.title = title

    def to_device(self, batch: TensorBatch, device: torch.device) -> TensorBatch:
        """Copy a batch to the device of the model, without waiting for the copy.

        Args:
            batch: The batch, in any memory.
            device: Device of the model.

        Returns:
            The tensors of the batch, as `losses` takes them.
        """
        return tuple(copy_to_device(values, device) for values in batch)

    @abstractmethod
    def losses(
        self, network: Callable[..., Tensor], batch: TensorBatch, step: int, batch_offset: int
    ) -> dict[str, Tensor]:
        """Compute the losses of one micro-batch.

        Random numbers are sampled for the complete batch of the step and cut to the micro-batch, so
        that a training does not depend on the number of processes and micro-batches.

        Args:
            network: The model, possibly compiled or wrapped for distributed training.
            batch: The micro-batch, as `to_device` returns it.
            step: Number of the step.
            batch_offset: Index of the micro-batch's first sample in the batch of the step.

        Returns:
            Losses (batch,), first "loss", which is minimised, then others to log.
        """

    @abstractmethod
    def model_config(self) -> dict[str, Any]:
        """Describe the model for the checkpoint's config.json.

        Returns:
            Values for JSON.
        """

    @abstractmethod
    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Show the progress of the model, for instance by samples or by its test accuracy.

        Called in the main process only, so it must not take part in collective operations. During
        the call the model is in eval mode and has its EMA weights.

        Args:
            run: Run folder, into which images are written.
            step: Number of steps done.

        Returns:
            Values for JSON that are added to the step's line of metrics.jsonl.
        """

    @abstractmethod
    def has_report(self, run: Path, step: int) -> bool:
        """Tell whether the report of a step is complete.

        A process that is killed during a report leaves it out; it is made when the run resumes.

        Args:
            run: Run folder.
            step: Number of steps done.

        Returns:
            Whether `report` has written everything.
        """

    def data_identity(self) -> dict[str, Any]:
        """Identify the training data.

        Returns:
            Values for JSON that change with the items and the classes of the data; none for
            endless data, which its configuration determines.
        """
        return self.source.identity

    def export(self, run: Path) -> None:  # noqa: B027 (most tasks have nothing to export)
        """Write files for other programs into the run folder, after every checkpoint.

        Called with the EMA weights in place, in the main process. If the model is sharded, the
        others call it too, to take part in gathering its tensors. By default nothing is written.

        Args:
            run: Run folder; for the other processes a folder that is removed afterwards.
        """

    def regularization(self) -> Float[Tensor, ""]:
        """Sum the penalties of the model's encodings.

        Returns:
            The sum, a scalar; 0 if there are none.
        """
        modules = self.model.modules()
        encodings = [part for part in modules if isinstance(part, PositionalEncoding)]
        penalty = batched_regularization(encodings)
        # On the device of the loss: a number from the host would be waited for.
        device = next(self.model.parameters()).device
        return torch.zeros((), device=device) if penalty is None else penalty

    def evaluation_autocast(self) -> AbstractContextManager[object]:
        """Return a context in which reports run the model.

        Returns:
            On CUDA devices, autocast in the precision of the training; on others nothing.
        """
        device = next(self.model.parameters()).device
        return autocast(inference_precision(None, self.config.precision, device), device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters for the optimizer.

        Returns:
            Two groups: the parameters with weight decay, then those without.
        """
        return parameter_groups(self.model, self.config.optimizer.weight_decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint's model.safetensors.

        A task whose weights are mostly frozen returns only those that are trained.

        Returns:
            The tensors by name.
        """
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the weights of a checkpoint.

        Args:
            state: Tensors by name, as returned by `state_dict`.
        """
        self.model.load_state_dict(state)


def grid_path(run: Path, step: int) -> Path:
    """Return the path of a sample grid.

    Args:
        run: Run folder.
        step: Number of steps done.

    Returns:
        Path of the PNG file.
    """
    return run / "samples" / f"step-{step:08d}.png"


def captions_path(run: Path) -> Path:
    """Return the path of the file that lists the captions of the sample grids.

    Args:
        run: Run folder.

    Returns:
        Path of the text file; only tasks with captions write it.
    """
    return run / "samples" / "captions.txt"


def check_fit(
    source: LabelledDataset, *, in_channels: int, patch_size: int, num_classes: int | None
) -> None:
    """Check that labelled data fits a model.

    Args:
        source: Images or latents with classes.
        in_channels: Channels of the model's input.
        patch_size: Side of the model's patches.
        num_classes: Classes of the model; None if it does not use them.

    Raises:
        ValueError: If the shape or the number of classes does not fit.
    """
    check_shape(source.shape, in_channels=in_channels, patch_size=patch_size)
    if num_classes not in (None, source.num_classes):
        raise ValueError(
            f"model.num_classes is {num_classes}, but the data has {source.num_classes} classes: "
            f"set --model.num_classes {source.num_classes}"
        )


def check_shape(shape: tuple[int, int, int], *, in_channels: int, patch_size: int) -> None:
    """Check that images or latents fit a model's input.

    Args:
        shape: Channels, height and width of an image or latent.
        in_channels: Channels of the model's input.
        patch_size: Side of the model's patches.

    Raises:
        ValueError: If the channels differ, or height or width is no multiple of the patch size.
    """
    channels, height, width = shape
    if channels != in_channels or height % patch_size or width % patch_size:
        raise ValueError(
            f"data of the shape {shape} does not fit model.in_channels {in_channels} and "
            f"model.patch_size {patch_size}: set the model's in_channels to {channels}, and its "
            f"patch_size to a divisor of {height} and {width}"
        )


class StepNoise(NamedTuple):
    """Times, noise and uniform numbers for one micro-batch of a diffusion training step."""

    times: Float[Tensor, " batch"]
    """Times of the process, in its own units."""
    noise: Float[Tensor, "batch channels height width"]
    """Standard normal noise."""
    uniform: Float[Tensor, " batch"]
    """Uniform numbers in [0, 1), which decide whose condition is dropped."""


def noise_for_step(
    process: Process,
    x0: Float[Tensor, "batch channels height width"],
    config: RunConfig,
    step: int,
    batch_offset: int,
) -> StepNoise:
    """Sample the random numbers of a step and select those of one micro-batch.

    They are sampled for the complete batch, so that a training does not depend on the number of
    processes and micro-batches.

    Args:
        process: Process to sample times of.
        x0: Clean images or latents of the micro-batch; determines size, shape and device.
        config: Configuration of the training, which has its seed and batch size.
        step: Number of the step.
        batch_offset: Index of the micro-batch's first sample in the batch of the step.

    Returns:
        The random numbers of the micro-batch, on the device of `x0`.
    """
    device, micro_batch = x0.device, slice(batch_offset, batch_offset + len(x0))
    generator, size = step_generator(config.seed, step, device), config.batch_size
    times = process.sample_times(size, generator, device)
    noise = torch.randn((size, *x0.shape[1:]), generator=generator, device=device)
    uniform = torch.rand(size, generator=generator, device=device)
    return StepNoise(times[micro_batch], noise[micro_batch], uniform[micro_batch])


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """Create the random generator of a step, the same in a resumed run as in an uninterrupted one.

    Args:
        seed: Seed of the training.
        step: Number of the step.
        device: Device of the generator.

    Returns:
        A new generator.
    """
    # Odd multipliers spread seed and step over 63 bits; torch scrambles the seed further.
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator(device).manual_seed(mixed)
