"""What a recipe is, and the helpers that shrink its configuration for a smoke run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from harope._utils.atomic import atomic_folder
from harope.lab.recipes.tiny_text import CLIP_CHANNELS
from harope.lab.text import PretrainedTextConfig
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig

C = TypeVar("C", bound=RunConfig)

PAPER_FINE_TUNING: dict[str, Any] = {
    "optimizer": OptimizerConfig(lr=2e-5, weight_decay=0.01),
    "steps": 4000,
    "batch_size": 64,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "num_workers": 8,
    "log_every": 10,
    "checkpoint_every": 500,
    "sample_every": 500,
}
"""Fields of fine-tuning recipes; optimizer, steps and batch size are those of arXiv 2510.10489,
section 4."""

_SHORT: dict[str, Any] = {
    "steps": 4,
    "batch_size": 4,
    "num_workers": 0,
    "log_every": 2,
    "checkpoint_every": 2,
    "sample_every": 4,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named training configuration, as listed by `harope recipes`."""

    name: str
    """Name on the command line."""
    summary: str
    """One line: model, data, process."""
    config: Callable[[], RunConfig]
    """Returns the full configuration."""
    smoke_config: Callable[[Path], RunConfig]
    """Returns a tiny configuration that runs the same code in seconds. Synthetic data, if it needs
    some, is in the given folder."""
    smoke_data: Callable[[Path], None] | None = None
    """Writes the synthetic data of the tiny configuration into a folder."""
    prepare: Callable[[RunConfig], None] | None = None
    """Creates files that the full configuration needs, if they are missing."""
    data_side: int | None = None
    """Height and width of the training data, where the configuration of the data does not have
    them, for `harope plan`."""

    def make_smoke_data(self, folder: Path) -> None:
        """Write the synthetic data of the tiny configuration, unless the folder exists.

        Args:
            folder: Folder of the data.
        """

        from harope._utils.distributed import main_process_first

        if self.smoke_data is None:
            return
        with main_process_first():
            if not folder.exists():
                with atomic_folder(folder) as temporary:
                    self.smoke_data(temporary)

    def smoke(self, folder: Path) -> RunConfig:
        """Return the tiny configuration, and write its data, if it needs some.

        Args:
            folder: Folder whose subfolder `data` has the data.

        Returns:
            The configuration.
        """
        if self.smoke_data is None:
            return self.smoke_config(folder)
        self.make_smoke_data(folder / "data")
        return self.smoke_config(folder / "data")


def shorten(config: C, **changes: Any) -> C:
    """Reduce a training to four steps with batches of four, and replace other fields.

    Args:
        config: The full configuration.
        changes: Other fields to replace.

    Returns:
        The reduced configuration.
    """
    return replace(config, **_SHORT, **changes)


def shrink_dit(config: TrainConfig, num_steps: int = 4) -> TrainConfig:
    """Reduce a class-conditional training to a tiny network and four steps.

    Args:
        config: The full configuration.
        num_steps: Number of sampler steps.

    Returns:
        The reduced configuration.
    """
    return shorten(
        config,
        model=replace(config.model, depth=2, width=32, num_heads=2),
        sampling=replace(config.sampling, num_steps=num_steps),
        num_samples=4,
        validation_images=4,
    )


def shrink_mmdit(config: TextToImageConfig, num_steps: int = 4) -> TextToImageConfig:
    """Reduce a text-to-image training to a tiny network (unless pretrained) and four steps.

    Args:
        config: The full configuration.
        num_steps: Number of sampler steps.

    Returns:
        The reduced configuration.
    """
    sizes: dict[str, Any] = {"depth": 2, "num_heads": 2, "head_dim": 16}
    model = config.model
    return shorten(
        config,
        model=model if model.pretrained else replace(model, **sizes),
        sampling=replace(config.sampling, num_steps=num_steps),
        prompts=config.prompts[:4],
        validation_images=4,
    )


def shrink_vit(config: ClassifyConfig, **changes: Any) -> ClassifyConfig:
    """Reduce a classification training to a tiny network and four steps.

    Args:
        config: The full configuration.
        changes: Further fields of the model to replace.

    Returns:
        The reduced configuration.
    """
    sizes = {"depth": 2, "width": 32, "num_heads": 2} | changes
    return shorten(config, model=replace(config.model, **sizes))


def with_tiny_clip(config: TextToImageConfig, folder: Path) -> TextToImageConfig:
    """Replace the pretrained text encoder of a training by a tiny random one.

    Args:
        config: A configuration whose text encoder is a `PretrainedTextConfig`.
        folder: Folder with the encoder, which `save_tiny_clip` writes to its subfolder `clip`; the
            cached text embeddings are written to its subfolder `text`.

    Returns:
        The configuration with the tiny encoder and the model's text channels to match.
    """
    assert isinstance(config.text, PretrainedTextConfig)
    return replace(
        config,
        model=replace(config.model, text_channels=CLIP_CHANNELS, pooled_channels=CLIP_CHANNELS),
        text=replace(config.text, path=str(folder / "clip")),
        # Its tokens are letters, so that nearly all captions are cut.
        states=replace(config.states, folder=str(folder / "text"), max_truncated=None),
    )
