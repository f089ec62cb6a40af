"""The grid of samples that a training draws of itself."""

from pathlib import Path

from harope.data.pictures import save_grid
from harope.diffusion import Process
from harope.diffusion.generate import generate
from harope.models.dit import DiT
from harope.training.config import TrainConfig


def write_sample_grid(
    model: DiT, process: Process, config: TrainConfig, shape: tuple[int, int, int], path: Path
) -> None:
    """Draw `num_samples` samples, the same labels and seeds every time, into one PNG.

    Latents are shown as they are: their first three channels as colours.
    """
    count, classes = config.num_samples, config.model.num_classes
    samples = generate(
        model,
        process,
        shape=shape,
        labels=[index * classes // count for index in range(count)] if classes else None,
        null_class=config.model.null_class,
        seeds=range(count),
        config=config.sampling,
        device=next(model.parameters()).device,
    )
    save_grid(samples, path)
