"""Class-conditional diffusion as a training task."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harope._utils.field_checks import AT_LEAST_ONE, NOT_NEGATIVE, check_range
from harope.diffusion import FlowConfig, GaussianConfig, GaussianDiffusion, Process, RectifiedFlow
from harope.diffusion.generate import SamplingConfig, generate
from harope.diffusion.sampling import check_sampling
from harope.lab.data.dataset import Batch, check_same_classes
from harope.lab.data.image_io import save_grid
from harope.lab.data.registry import DataConfig, open_dataset, open_validation_data
from harope.lab.training.logging import has_metric
from harope.lab.training.task import (
    RunConfig,
    Task,
    TensorBatch,
    check_fit,
    grid_path,
    noise_for_step,
)
from harope.lab.training.validation import (
    FixedNoise,
    ValidationImages,
    losses_at,
    validation_metrics,
)
from harope.models.dit.config import DiTConfig
from harope.models.dit.model import DiT


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Configuration of a class-conditional diffusion training with a DiT."""

    task: ClassVar[str] = "class-conditional"
    """Tag of the task; not in files, where a configuration without `task` is of this one."""
    REPORTING: ClassVar[tuple[str, ...]] = (
        *RunConfig.REPORTING,
        "num_samples",
        "sampling",
        "validation_images",
    )

    data: Annotated[DataConfig, Field(discriminator="kind")]
    """Training data."""
    model: DiTConfig
    """The DiT."""
    diffusion: Annotated[GaussianConfig | FlowConfig, Field(discriminator="kind")]
    """Diffusion process and loss."""
    sampling: SamplingConfig
    """How the sample grids are sampled."""
    num_samples: int = 36
    """Number of images in a sample grid."""
    validation_images: int = 256
    """Number of images of the validation loss, which each report computes; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, AT_LEAST_ONE, "num_samples")
        check_range(self, NOT_NEGATIVE, "validation_images")
        process = self.create_process()
        needed = process.output_channels(self.model.in_channels)
        if self.model.out_channels != needed:
            raise ValueError(
                f"model.learned_variance is {self.model.learned_variance} but diffusion "
                f"{self.diffusion.kind!r} needs {needed} output channels for "
                f"{self.model.in_channels}: make model.learned_variance "
                f"{not self.model.learned_variance}"
            )
        self._check_sampling(process)

    def _check_sampling(self, process: Process) -> None:
        """Raise ValueError if the sample grids could not be sampled, before training."""
        sampling, model = self.sampling, self.model
        check_sampling(sampling.sampler, process, sampling.num_steps)
        # The data has classes if their number is not given.
        if sampling.guidance != 1 and model.num_classes != 0 and not model.label_dropout:
            raise ValueError(
                f"sampling.guidance {sampling.guidance} needs a null class, but "
                f"model.label_dropout is 0: set sampling.guidance to 1"
            )
        channels = sampling.guidance_channels
        if channels is not None and not 1 <= channels <= model.in_channels:
            raise ValueError(
                f"sampling.guidance_channels {channels} is not within the {model.in_channels} "
                f"channels of the model"
            )

    def create_process(self) -> Process:
        """Create the diffusion process.

        Returns:
            The process.
        """
        if isinstance(self.diffusion, GaussianConfig):
            return GaussianDiffusion(self.diffusion)
        return RectifiedFlow(self.diffusion)


class ClassConditional(Task):
    """Diffusion training of a DiT on labelled images, with label dropout for guidance.

    Args:
        config: Configuration of the training.
        device: Device of the model.

    Raises:
        ValueError: If data and model do not fit, or the data cannot be read.
    """

    config_type = TrainConfig
    config: TrainConfig
    model: DiT

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        source = open_dataset(config.data, config.seed)
        architecture = replace(
            config.model,
            input_size=source.shape[1:],
            num_classes=(
                source.num_classes if config.model.num_classes is None else config.model.num_classes
            ),
        )
        check_fit(
            source,
            in_channels=architecture.in_channels,
            patch_size=architecture.patch_size,
            num_classes=architecture.num_classes or None,
        )
        model = DiT(architecture).to(device)
        model.gradient_checkpointing = config.gradient_checkpointing
        super().__init__(config, source, model, title=config.model.encoding)
        self.process = config.create_process()
        self._validation: ValidationImages[Batch] | None = None
        if config.validation_images:
            held_out = open_validation_data(config.data, config.seed)
            if held_out is not None:
                check_same_classes(source, held_out)
            self._validation = ValidationImages(source, held_out, config.validation_images)

    def losses(
        self, network: Callable[..., Tensor], batch: TensorBatch, step: int, batch_offset: int
    ) -> dict[str, Tensor]:
        config, (x0, labels) = self.config, batch
        times, noise, uniform = noise_for_step(self.process, x0, config, step, batch_offset)
        condition: dict[str, Tensor] = {}
        if self.model.config.num_classes:
            condition = {"y": labels, "drop_labels": uniform < config.model.label_dropout}
        return self.process.losses(lambda x, t: network(x, t, **condition), x0, noise, times)

    def validation_losses(self, batch: Batch, fixed: FixedNoise) -> dict[str, Tensor]:
        """Compute the losses of images at fixed times and noise, with all labels.

        Args:
            batch: Images and labels, on any device.
            fixed: Times and noise.

        Returns:
            Losses (batch,), as `losses` does.
        """
        device = next(self.model.parameters()).device
        x0, labels = (values.to(device) for values in batch)
        condition = {"y": labels} if self.model.config.num_classes else {}
        return losses_at(self.process, lambda x, t: self.model(x, t, **condition), x0, fixed)

    def model_config(self) -> dict[str, Any]:
        return self.model.config.to_dict()

    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Write a grid of samples as PNG, with the same labels and seeds in every report.

        The validation loss is computed as well, see `harope.lab.training.validation`. Latents are
        not decoded: their first three channels are shown as RGB.

        Args:
            run: Run folder; the grid is `samples/step-{step}.png`.
            step: Number of steps done.

        Returns:
            The validation loss, if there is one.
        """
        count, classes = self.config.num_samples, self.model.config.num_classes
        with self.evaluation_autocast():
            metrics = validation_metrics(
                self.model,
                self._validation,
                self.validation_losses,
                self.config.batch_size // self.config.accumulation,
            )
            samples = generate(
                self.model,
                self.process,
                shape=self.source.shape,
                labels=[index * classes // count for index in range(count)] if classes else None,
                null_class=self.model.config.null_class,
                seeds=range(count),
                config=self.config.sampling,
                device=next(self.model.parameters()).device,
            )
        save_grid(samples, grid_path(run, step))
        return metrics

    def has_report(self, run: Path, step: int) -> bool:
        validated = self._validation is None or has_metric(run, step, self._validation.metric)
        return validated and grid_path(run, step).is_file()
