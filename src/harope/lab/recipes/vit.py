"""digits-vit, fashion-vit, imagenet-vit: image classification with vision transformers."""

from dataclasses import replace
from pathlib import Path

from harope.lab.data.labelled.digits import DigitsDataConfig
from harope.lab.data.labelled.folder import FolderDataConfig
from harope.lab.data.labelled.idx import IdxDataConfig
from harope.lab.data.synthetic import make_idx, make_image_folder
from harope.lab.recipes.fashion import DEBIAN_FOLDER
from harope.lab.recipes.recipe import Recipe, shrink_vit
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.models.vit import ViTConfig

_IMAGENET_IMAGES = 1_281_167


def digits_vit() -> ClassifyConfig:
    """Train a ViT of 0.1 M parameters on 8-pixel digits, of which every fifth is held out.

    Test it at other sizes with `harope evaluate resolutions RUN --sizes 8,10,12,16`.

    Returns:
        The full configuration.
    """
    return ClassifyConfig(
        recipe="digits-vit",
        model=ViTConfig(
            depth=2, width=64, num_heads=4, patch_size=2, in_channels=1, num_classes=10
        ),
        data=DigitsDataConfig(split="train"),
        optimizer=OptimizerConfig(
            lr=3e-3,
            weight_decay=0.05,
            warmup_steps=50,
            decay=1.0,
            decay_shape="cosine",
            clip_norm=1.0,
        ),
        steps=600,
        batch_size=64,
        ema_decay=0.0,
        label_smoothing=0.1,
        mixup=0.4,
        sample_every=200,
    )


def fashion_vit() -> ClassifyConfig:
    """Train a ViT of 0.3 M parameters on 28-pixel Fashion-MNIST for 5 epochs.

    On Debian and Ubuntu, `apt-get install dataset-fashion-mnist` installs the data; elsewhere, set
    `--data.root` to a folder with the IDX files.

    Returns:
        The full configuration.
    """
    return ClassifyConfig(
        recipe="fashion-vit",
        model=ViTConfig(
            depth=3, width=96, num_heads=3, patch_size=4, in_channels=1, num_classes=10
        ),
        data=IdxDataConfig(root=DEBIAN_FOLDER, split="train"),
        optimizer=OptimizerConfig(
            lr=2e-3,
            weight_decay=0.05,
            warmup_steps=200,
            decay=1.0,
            decay_shape="cosine",
            clip_norm=1.0,
        ),
        steps=2350,
        batch_size=128,
        ema_decay=0.0,
        label_smoothing=0.1,
    )


def imagenet_vit() -> ClassifyConfig:
    """Train ViT-B/16 on ImageNet-1k at 224 pixels for 300 epochs.

    Settings of arXiv 2510.10489, section 4: AdamW, learning rate 5e-4 after 5 epochs of warm-up
    from 1e-6, batches of 256, images resized and centre-cropped. The paper gives neither weight
    decay nor schedule: 0.05 and cosine decay are those of DeiT (arXiv 2012.12877, table 9). DeiT's
    augmentations are `--data.random_crop 0.08 --data.random_flip true --mixup 0.8 --cutmix 1.0
    --label_smoothing 0.1 --drop_path 0.1`.

    Images are read from `imagenet/train` and `imagenet/val`, with one folder per class; set
    `--data.root` and `--held_out.root` if they are elsewhere.

    Returns:
        The full configuration.
    """
    steps = 300 * _IMAGENET_IMAGES // 256
    return ClassifyConfig(
        recipe="imagenet-vit",
        model=ViTConfig(name="vit_base_patch16_224", num_classes=1000),
        data=FolderDataConfig(root="imagenet/train", image_size=224, random_flip=False),
        held_out=FolderDataConfig(root="imagenet/val", image_size=224, random_flip=False),
        optimizer=OptimizerConfig(
            lr=5e-4,
            weight_decay=0.05,
            warmup_steps=steps // 60,
            warmup_lr=1e-6,
            decay=1.0,
            decay_shape="cosine",
        ),
        steps=steps,
        batch_size=256,
        ema_decay=0.0,
        precision="bf16",
        num_workers=8,
        log_every=100,
        checkpoint_every=10_000,
        sample_every=10_000,
    )


def _smoke_fashion(folder: Path) -> ClassifyConfig:
    return shrink_vit(replace(fashion_vit(), data=IdxDataConfig(root=str(folder), split="train")))


def _smoke_imagenet_data(folder: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        make_image_folder(folder / split, num=10, image_size=32, seed=seed)


def _smoke_imagenet(folder: Path) -> ClassifyConfig:
    data, held_out = (
        FolderDataConfig(root=str(folder / split), image_size=32, random_flip=False)
        for split in ("train", "val")
    )
    config = replace(imagenet_vit(), data=data, held_out=held_out)
    return shrink_vit(config, name=None, patch_size=16, num_classes=5)


RECIPES = (
    Recipe(
        name="digits-vit",
        summary="0.1 M parameter ViT that classifies scikit-learn's digits at 8 pixels",
        config=digits_vit,
        smoke_config=lambda folder: shrink_vit(digits_vit()),
        data_side=8,
    ),
    Recipe(
        name="fashion-vit",
        summary="0.3 M parameter ViT that classifies Fashion-MNIST at 28 pixels",
        config=fashion_vit,
        smoke_config=_smoke_fashion,
        smoke_data=lambda folder: make_idx(folder, num=32, seed=0),
        data_side=28,
    ),
    Recipe(
        name="imagenet-vit",
        summary="ViT-B/16 that classifies ImageNet at 224 pixels: the paper's settings",
        config=imagenet_vit,
        smoke_config=_smoke_imagenet,
        smoke_data=_smoke_imagenet_data,
    ),
)
