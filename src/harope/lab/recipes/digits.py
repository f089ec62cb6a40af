"""digits-dit: a class-conditional DiT on scikit-learn's 8 x 8 digits."""

from harope.diffusion import GaussianConfig
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.labelled.digits import DigitsDataConfig
from harope.lab.recipes.recipe import Recipe, shrink_dit
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.models.dit.config import DiTConfig


def digits_dit() -> TrainConfig:
    """Train a DiT of 1 M parameters on 8-pixel digits by DDPM with learned variance, as in DiT.

    Returns:
        The full configuration.
    """
    return TrainConfig(
        recipe="digits-dit",
        model=DiTConfig(
            depth=4, width=128, num_heads=4, patch_size=2, in_channels=1, num_classes=10
        ),
        data=DigitsDataConfig(),
        diffusion=GaussianConfig(clip_sample=True),
        sampling=SamplingConfig(sampler="ancestral", num_steps=100, guidance=1.5),
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.99), warmup_steps=100, clip_norm=1.0),
        steps=3000,
        batch_size=64,
        ema_decay=0.999,
    )


RECIPE = Recipe(
    name="digits-dit",
    summary="1 M parameter DiT, scikit-learn's digits at 8 pixels, DDPM with learned variance",
    config=digits_dit,
    smoke_config=lambda folder: shrink_dit(digits_dit()),
    data_side=8,
)
