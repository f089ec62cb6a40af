"""scenes-dit: a class-conditional DiT on the built-in scenes."""

from harope.diffusion import FlowConfig
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.labelled.scenes import ScenesDataConfig
from harope.lab.recipes.recipe import Recipe, shrink_dit
from harope.lab.scenes.grammar import NUM_CLASSES
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.models.dit.config import DiTConfig


def scenes_dit() -> TrainConfig:
    """Train a DiT of 2 M parameters on the built-in 32-pixel scenes by rectified flow.

    Returns:
        The full configuration.
    """
    return TrainConfig(
        recipe="scenes-dit",
        model=DiTConfig(
            depth=6,
            width=128,
            num_heads=4,
            patch_size=4,
            in_channels=3,
            num_classes=NUM_CLASSES,
            learned_variance=False,
        ),
        data=ScenesDataConfig(image_size=32),
        diffusion=FlowConfig(prediction="data"),
        sampling=SamplingConfig(sampler="heun", num_steps=12, guidance=2.0),
        optimizer=OptimizerConfig(
            lr=2e-3, betas=(0.9, 0.99), warmup_steps=200, decay=0.25, clip_norm=1.0
        ),
        steps=4600,
        batch_size=64,
        ema_decay=0.999,
    )


RECIPE = Recipe(
    name="scenes-dit",
    summary="2 M parameter DiT, built-in scenes at 32 pixels, rectified flow",
    config=scenes_dit,
    smoke_config=lambda folder: shrink_dit(scenes_dit()),
)
