"""scenes-mmdit, emoji-mmdit: small text-to-image transformers (MMDiT)."""

from dataclasses import replace
from pathlib import Path

from harope.diffusion import FlowConfig
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.captioned.emoji import EmojiDataConfig
from harope.lab.data.captioned.scenes import CaptionedScenesDataConfig, held_out_prompts
from harope.lab.data.synthetic import make_emoji
from harope.lab.recipes.recipe import Recipe, shrink_mmdit, with_tiny_clip
from harope.lab.recipes.tiny_sd3 import save_tiny_clip
from harope.lab.text import PretrainedTextConfig, ToyVocabularyConfig
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.tasks.text_embeddings import TextEmbeddingConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.mmdit import MMDiTConfig

# A start token and "a picture of a red circle and a blue square".
_SCENES_LENGTH = 11

# Captions of held-out emoji.
_EMOJI_PROMPTS = (
    "rainbow",
    "mushroom",
    "artist palette",
    "motorcycle",
    "lady beetle",
    "rabbit face",
    "wolf face",
    "athletic shoe",
    "two hearts",
    "orange book",
    "lock",
    "fearful face",
    "kiwifruit",
    "cupcake",
    "woman astronaut",
    "call me hand, medium-light skin tone",
)


def scenes_mmdit() -> TextToImageConfig:
    """Train an MMDiT of 2 M parameters on captioned 32-pixel scenes by rectified flow.

    Takes about 25 minutes on one CPU core. Evaluate it with `harope sample RUN --scenes-prompts 50
    --out SAMPLES` and `harope evaluate scenes SAMPLES`.

    Returns:
        The full configuration.
    """
    return TextToImageConfig(
        recipe="scenes-mmdit",
        model=MMDiTConfig(
            depth=4,
            num_heads=4,
            head_dim=32,
            patch_size=4,
            in_channels=3,
            text_channels=128,
            pooled_channels=128,
        ),
        data=CaptionedScenesDataConfig(image_size=32),
        text=ToyVocabularyConfig(channels=128, length=_SCENES_LENGTH),
        diffusion=FlowConfig(prediction="data"),
        sampling=SamplingConfig(sampler="heun", num_steps=12, guidance=2.0),
        prompts=tuple(prompt.caption for prompt in held_out_prompts(6)),
        optimizer=OptimizerConfig(
            lr=2e-3, betas=(0.9, 0.99), warmup_steps=200, decay=0.25, clip_norm=1.0
        ),
        steps=2000,
        batch_size=64,
        ema_decay=0.999,
    )


def emoji_mmdit() -> TextToImageConfig:
    """Train an MMDiT of 4 M parameters on 32-pixel emoji and their names by rectified flow.

    `npm install --ignore-scripts emoji-datasource-google` installs the emoji; set `--data.root` if
    they are elsewhere. Names are encoded once by MiniLM (`pip install harope[text]`) and cached in
    `data/emoji-text`. One emoji in 19 is held out; the sample grid shows held-out captions.

    Returns:
        The full configuration.
    """
    return TextToImageConfig(
        recipe="emoji-mmdit",
        model=MMDiTConfig(
            depth=4,
            num_heads=4,
            head_dim=40,
            patch_size=4,
            in_channels=3,
            text_channels=384,
            pooled_channels=384,
        ),
        data=EmojiDataConfig(root="node_modules/emoji-datasource-google", image_size=32),
        text=PretrainedTextConfig(length=24),
        states=TextEmbeddingConfig(folder="data/emoji-text"),
        diffusion=FlowConfig(prediction="data"),
        sampling=SamplingConfig(sampler="heun", num_steps=18, guidance=3.0),
        prompts=_EMOJI_PROMPTS,
        optimizer=OptimizerConfig(
            lr=1e-3, betas=(0.9, 0.99), warmup_steps=200, decay=0.25, clip_norm=1.0
        ),
        steps=6000,
        batch_size=64,
        ema_decay=0.999,
    )


def _smoke_emoji_data(folder: Path) -> None:
    make_emoji(folder / "emoji", num=12)
    save_tiny_clip(folder / "clip")


def _smoke_emoji(folder: Path) -> TextToImageConfig:
    data = EmojiDataConfig(root=str(folder / "emoji"), image_size=16)
    return shrink_mmdit(replace(with_tiny_clip(emoji_mmdit(), folder), data=data))


RECIPES = (
    Recipe(
        name="scenes-mmdit",
        summary="2 M parameter MMDiT, built-in scenes with captions at 32 pixels, rectified flow",
        config=scenes_mmdit,
        smoke_config=lambda folder: shrink_mmdit(scenes_mmdit()),
    ),
    Recipe(
        name="emoji-mmdit",
        summary="4 M parameter MMDiT, emoji with their names at 32 pixels, rectified flow",
        config=emoji_mmdit,
        smoke_config=_smoke_emoji,
        smoke_data=_smoke_emoji_data,
    ),
)
