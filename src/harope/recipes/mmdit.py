"""scenes-mmdit, ...: text-to-image transformers (MMDiT) trained on captions."""

from harope.data.captioned_scenes import CaptionedScenesData, held_out_prompts
from harope.diffusion import FlowConfig
from harope.diffusion.generate import SamplingConfig
from harope.recipes.recipe import Recipe, shrunk_mmdit
from harope.text import ClosedVocabularyConfig
from harope.training.config import OptimizerConfig
from harope.training.mmdit import MMDiTConfig
from harope.training.text_to_image import TextToImageConfig

# "a picture of a red circle and a blue square", and the token that begins it.
_SCENES_LENGTH = 11


def scenes_mmdit() -> TextToImageConfig:
    """A 2 M parameter MMDiT on 32-pixel scenes with captions, by rectified flow.

    Score it by `harope sample RUN --scenes-prompts 50` and `harope evaluate scenes`.
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
        data=CaptionedScenesData(image_size=32),
        text=ClosedVocabularyConfig(channels=128, length=_SCENES_LENGTH),
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


RECIPES = (
    Recipe(
        name="scenes-mmdit",
        summary="2 M parameter MMDiT, built-in scenes with captions at 32 pixels, rectified flow",
        config=scenes_mmdit,
        smoke=lambda folder: shrunk_mmdit(scenes_mmdit()),
    ),
)
