"""Image classification as a task."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harope.lab.data.dataset import FiniteSource, items_in_order
from harope.lab.data.registry import DataConfig, open_source
from harope.lab.metrics.accuracy import top_k_accuracy
from harope.lab.training.config import RunConfig
from harope.lab.training.task import Task, TensorBatch, check_fit, generator_for
from harope.models.drop_path import draw_kept, replace_drop_paths
from harope.models.vit import ViTConfig, create_vit, vit_patch_size
from harope.rope.presets import options_to_store

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(RunConfig):
    """Image classification by a vision transformer."""

    REPORTING: ClassVar[tuple[str, ...]] = (*RunConfig.REPORTING, "held_out")

    task: Literal["classification"] = "classification"
    """Tells its JSON from that of other tasks."""
    data: Annotated[DataConfig, Field(discriminator="kind")]
    """What it learns from."""
    model: ViTConfig
    """The network."""
    held_out: Annotated[DataConfig, Field(discriminator="kind")]
    """What its accuracy is measured on."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    mixup: float = 0.0
    """Both parameters of mixup's beta distribution (arXiv 1710.09412); 0 for none. Partners are
    found within the part of a batch that a process computes at once."""
    cutmix: float = 0.0
    """The same of CutMix (arXiv 1905.04899); of both, one is chosen for each batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing} must lie in [0, 1)")
        if min(self.mixup, self.cutmix) < 0:
            raise ValueError(f"mixup {self.mixup} and cutmix {self.cutmix} must not be negative")


class Classification(Task):
    """A ViT that learns classes; reports its accuracy on held-out images.

    Raises ValueError when data and model do not fit, or the held-out data has no end.
    """

    config: ClassifyConfig
    model: "VisionTransformer"

    def __init__(self, config: ClassifyConfig, device: torch.device) -> None:
        source = open_source(config.data, config.seed)
        self.held_out = open_held_out(config.held_out)
        self.architecture = replace(config.model, input_size=source.shape[1:])
        model = create_vit(self.architecture)
        for data in (source, self.held_out):
            check_fit(
                data,
                in_channels=config.model.in_channels,
                patch_size=vit_patch_size(model),
                num_classes=config.model.num_classes,
            )
        self._drop_paths = replace_drop_paths(model)
        model.set_grad_checkpointing(config.gradient_checkpointing)
        super().__init__(config, source, model.to(device), title=config.model.encoding)

    def losses(
        self, network: Callable[..., Tensor], batch: TensorBatch, step: int, first: int
    ) -> dict[str, Tensor]:
        """Cross-entropy, in nats."""
        config, (images, targets) = self.config, batch
        generator = generator_for(config.seed, step, images.device)
        share = slice(first, first + len(images))
        draw_kept(self._drop_paths, config.batch_size, share, generator)
        if config.mixup or config.cutmix:
            images, targets = self._mixed(images, targets, step)
        smoothing = config.label_smoothing
        logits = network(images)
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        return {"loss": loss}

    def model_config(self) -> dict[str, Any]:
        """The ViT's."""
        config = self.architecture
        options = options_to_store(config.encoding, config.encoding_options)
        return asdict(config) | {"encoding_options": options}

    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Shares and counts of the held-out images whose class comes first, or among five."""
        batches = items_in_order(
            self.held_out, batch_size=self.config.batch_size, num_workers=self.config.num_workers
        )
        found = top_k_accuracy(self.model, batches)
        rates = {f"top{k}": score.rate for k, score in found.items()}
        counts = {f"top{k}_right": score.successes for k, score in found.items()}
        return rates | counts | {"held_out_images": len(self.held_out)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """No decay for what the ViT exempts besides, such as its embedding and class token."""
        decayed, kept = super().parameter_groups()
        names = self.model.no_weight_decay()
        exempt = {id(p) for name, p in self.model.named_parameters() if name in names}
        moved = [p for p in decayed["params"] if id(p) in exempt]
        left = [p for p in decayed["params"] if id(p) not in exempt]
        return [decayed | {"params": left}, kept | {"params": [*kept["params"], *moved]}]

    def _mixed(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Images and their classes' shares; the same mixture in all parts of a step's batch."""
        from timm.data import Mixup

        if len(images) % 2:
            raise ValueError(
                f"mixup {self.config.mixup} and cutmix {self.config.cutmix} pair images but a part "
                f"of the batch has {len(images)}: choose a batch_size that leaves even parts"
            )
        mix = Mixup(
            mixup_alpha=self.config.mixup,
            cutmix_alpha=self.config.cutmix,
            label_smoothing=0.0,
            num_classes=self.config.model.num_classes,
        )
        with _numpy_seeded(self.config.seed, step):
            # It writes into the images.
            return mix(images.clone(), labels)


def open_held_out(config: DataConfig) -> FiniteSource:
    """The images of a held-out split. Raises ValueError where they have no end."""
    source = open_source(config, seed=0)
    if not isinstance(source, FiniteSource):
        raise ValueError(
            f"held_out is {config.kind!r}, which has no end: choose data of fixed length"
        )
    return source


@contextmanager
def _numpy_seeded(seed: int, step: int) -> Iterator[None]:
    """numpy's global generator, which timm draws from, seeded inside and as before after."""
    state = np.random.get_state()
    np.random.seed(np.random.SeedSequence((seed, step)).generate_state(4))
    try:
        yield
    finally:
        np.random.set_state(state)
