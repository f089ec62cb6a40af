"""Image classification as a training task."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harope._utils.field_checks import FRACTION, NOT_NEGATIVE, check_range
from harope._utils.rng import isolated_numpy_rng
from harope.lab.data.dataset import FiniteLabelledDataset, check_same_classes, items_in_order
from harope.lab.data.registry import DataConfig, divide_data, open_dataset
from harope.lab.metrics.accuracy import top_k_accuracy
from harope.lab.training.execution import num_data_workers
from harope.lab.training.logging import has_metric
from harope.lab.training.task import RunConfig, Task, TensorBatch, check_fit, step_generator
from harope.models.drop_path import replace_drop_paths, sample_drop_path_masks
from harope.models.vit import ViTConfig, create_vit, vit_patch_size
from harope.rope.presets import options_to_store

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(RunConfig):
    """Configuration of an image classification training with a vision transformer."""

    REPORTING: ClassVar[tuple[str, ...]] = (*RunConfig.REPORTING, "held_out")

    task: Literal["classification"] = "classification"
    """Tag in configuration files."""
    data: Annotated[DataConfig, Field(discriminator="kind")]
    """Training data."""
    model: ViTConfig
    """The vision transformer."""
    held_out: Annotated[DataConfig, Field(discriminator="kind")] | None = None
    """Data that the accuracy is measured on; must be finite. None: the held-out part of `data`,
    whose training part is then trained on; data of the kinds folder, idx and digits has both."""
    label_smoothing: float = 0.0
    """Fraction of the target probability that is spread evenly over all classes."""
    mixup: float = 0.0
    """Parameter alpha of mixup's Beta(alpha, alpha) distribution (arXiv 1710.09412); 0: no mixup.
    Images are paired within a micro-batch."""
    cutmix: float = 0.0
    """Parameter alpha of CutMix (arXiv 1905.04899); 0: no CutMix. If mixup is on too, one of the
    two is chosen at random for each batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, FRACTION, "label_smoothing")
        check_range(self, NOT_NEGATIVE, "mixup", "cutmix")
        self.data_parts()

    def data_parts(self) -> tuple[DataConfig, DataConfig]:
        """Return the training data and the held-out data.

        Returns:
            Their configs, which never share an image if `held_out` is None.

        Raises:
            ValueError: If `held_out` is None and `data` cannot be divided.
        """
        return divide_data(self.data) if self.held_out is None else (self.data, self.held_out)


class Classification(Task):
    """Supervised training of a ViT, which reports its accuracy on held-out images.

    Args:
        config: Configuration of the training.
        device: Device of the model.

    Raises:
        ValueError: If data and model do not fit, or the held-out data is infinite.
    """

    config_type = ClassifyConfig
    config: ClassifyConfig
    model: "VisionTransformer"

    def __init__(self, config: ClassifyConfig, device: torch.device) -> None:
        data_config, held_out_config = config.data_parts()
        source = open_dataset(data_config, config.seed)
        if source.num_classes < 2:
            raise ValueError(
                "data has one class, but a classifier needs at least two: put the images of each "
                "class into a folder of their own below data.root"
            )
        self.held_out = open_held_out(held_out_config)
        check_same_classes(source, self.held_out)
        num_classes = config.model.num_classes
        self.architecture = replace(
            config.model,
            input_size=source.shape[1:],
            num_classes=source.num_classes if num_classes is None else num_classes,
        )
        model = create_vit(self.architecture)
        for data, expected in ((source, num_classes), (self.held_out, None)):
            check_fit(
                data,
                in_channels=config.model.in_channels,
                patch_size=vit_patch_size(model),
                num_classes=expected,
            )
        self._drop_paths = replace_drop_paths(model)
        model.set_grad_checkpointing(config.gradient_checkpointing)
        super().__init__(config, source, model.to(device), title=config.model.encoding)

    def losses(
        self, network: Callable[..., Tensor], batch: TensorBatch, step: int, batch_offset: int
    ) -> dict[str, Tensor]:
        config, (images, targets) = self.config, batch
        generator = step_generator(config.seed, step, images.device)
        micro_batch = slice(batch_offset, batch_offset + len(images))
        sample_drop_path_masks(self._drop_paths, config.batch_size, micro_batch, generator)
        if config.mixup or config.cutmix:
            images, targets = self._mix(images, targets, step)
        smoothing = config.label_smoothing
        logits = network(images)
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        return {"loss": loss}

    def model_config(self) -> dict[str, Any]:
        config = self.architecture
        options = options_to_store(config.encoding, config.encoding_options)
        return asdict(config) | {"encoding_options": options}

    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Measure the top-1 and top-5 accuracy on the held-out images.

        Args:
            run: Run folder, in which nothing is written.
            step: Number of steps done.

        Returns:
            Accuracies as fractions (`top1`, `top5`), numbers of right answers (`top1_right`,
            `top5_right`) and the number of images (`held_out_images`).
        """
        config, device = self.config, next(self.model.parameters()).device
        batches = items_in_order(
            self.held_out,
            batch_size=config.batch_size,
            num_workers=num_data_workers(config.num_workers, device),
        )
        with self.evaluation_autocast():
            scores = top_k_accuracy(self.model, batches)
        rates = {f"top{k}": score.rate for k, score in scores.items()}
        counts = {f"top{k}_right": score.successes for k, score in scores.items()}
        return rates | counts | {"held_out_images": len(self.held_out)}

    def has_report(self, run: Path, step: int) -> bool:
        return has_metric(run, step, "top1")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters like `Task.parameter_groups`, with timm's exemptions from decay.

        timm exempts the position embedding and the class token.

        Returns:
            Two groups: the parameters with weight decay, then those without.
        """
        decayed, exempt = super().parameter_groups()
        names = self.model.no_weight_decay()
        by_timm = {id(p) for name, p in self.model.named_parameters() if name in names}
        moved = [p for p in decayed["params"] if id(p) in by_timm]
        remaining = [p for p in decayed["params"] if id(p) not in by_timm]
        return [decayed | {"params": remaining}, exempt | {"params": [*exempt["params"], *moved]}]

    def _mix(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Mix pairs of images; return them with class probabilities (batch, classes).

        The mixing weight of a step is the same in all its micro-batches.
        """
        from timm.data import Mixup

        if len(images) % 2:
            raise ValueError(
                f"mixup {self.config.mixup} and cutmix {self.config.cutmix} pair the images of a "
                f"micro-batch, but it has {len(images)}: choose a batch_size that gives every "
                f"micro-batch an even number of images"
            )
        mix = Mixup(
            mixup_alpha=self.config.mixup,
            cutmix_alpha=self.config.cutmix,
            label_smoothing=0.0,
            num_classes=self.architecture.num_classes,
        )
        with isolated_numpy_rng((self.config.seed, step)):
            # Mixup works in place.
            return mix(images.clone(), labels)


def open_held_out(config: DataConfig) -> FiniteLabelledDataset:
    """Open held-out data.

    Args:
        config: Which data to read.

    Returns:
        The dataset.

    Raises:
        ValueError: If the data is infinite, missing or invalid.
    """
    try:
        source = open_dataset(config, seed=0)
    except FileNotFoundError as error:
        raise ValueError(
            f"held_out: {error}; set held_out.root, or held_out to null to hold out a part of data"
        ) from None
    except (ValueError, OSError) as error:
        raise ValueError(f"held_out: {error}") from None
    if not isinstance(source, FiniteLabelledDataset):
        raise ValueError(
            f"held_out is {config.kind!r}, which is infinite: choose a data set of fixed length"
        )
    return source
