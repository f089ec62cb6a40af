"""fashion-dit: a class-conditional DiT on Fashion-MNIST."""

from dataclasses import replace
from pathlib import Path

from harope.diffusion import FlowConfig
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.labelled.idx import IdxDataConfig
from harope.lab.data.synthetic import make_idx
from harope.lab.recipes.recipe import Recipe, shrink_dit
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.models.dit.config import DiTConfig

# The IDX files of the Debian package dataset-fashion-mnist.
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"


def fashion_dit() -> TrainConfig:
    """Train a DiT of 2 M parameters on 28-pixel Fashion-MNIST by rectified flow.

    On Debian and Ubuntu, `apt-get install dataset-fashion-mnist` installs the data; elsewhere, set
    `--data.root` to a folder with the IDX files.

    Returns:
        The full configuration.
    """
    return TrainConfig(
        recipe="fashion-dit",
        model=DiTConfig(
            depth=6,
            width=128,
            num_heads=4,
            patch_size=4,
            in_channels=1,
            num_classes=10,
            learned_variance=False,
        ),
        data=IdxDataConfig(root=DEBIAN_FOLDER, split="train"),
        diffusion=FlowConfig(prediction="data"),
        sampling=SamplingConfig(sampler="heun", num_steps=12, guidance=1.5),
        optimizer=OptimizerConfig(
            lr=2e-3, betas=(0.9, 0.99), warmup_steps=200, decay=0.25, clip_norm=1.0
        ),
        steps=6000,
        batch_size=64,
        ema_decay=0.999,
    )


def _smoke_config(folder: Path) -> TrainConfig:
    return shrink_dit(replace(fashion_dit(), data=IdxDataConfig(root=str(folder), split="train")))


RECIPE = Recipe(
    name="fashion-dit",
    summary="2 M parameter DiT, Fashion-MNIST at 28 pixels, rectified flow",
    config=fashion_dit,
    smoke_config=_smoke_config,
    smoke_data=lambda folder: make_idx(folder, num=32, seed=0),
    data_side=28,
)
