"""coco-mmdit, coco-sd3: text-to-image transformers (MMDiT) on latents of MS-COCO."""

from dataclasses import replace
from pathlib import Path

from harope.diffusion.generate import SamplingConfig
from harope.lab.data.latents.captioned import CaptionedLatentsDataConfig
from harope.lab.data.synthetic import make_captioned_latents
from harope.lab.recipes.recipe import Recipe, shrunk_mmdit
from harope.lab.recipes.tiny_sd3 import save_random_clip, save_random_sd3
from harope.lab.text import PretrainedTextConfig, SD3TextConfig
from harope.lab.training.config import OptimizerConfig
from harope.lab.training.tasks.text_embeddings import StatesConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.mmdit import MMDiTConfig

SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"

_PROMPTS = (
    "A green train is coming down the tracks",
    "A group of skiers are preparing to ski down a mountain",
    "A small kitchen with a low ceiling",
    "A road with traffic lights, street lights and cars",
    "A bus driving in a city area with traffic signs",
    "Two dogs lying on a couch beside a window",
    "A bowl of three oranges on a wooden table",
    "A man riding a wave on top of a surfboard",
)


def coco_mmdit() -> TextToImageConfig:
    """A B-sized MMDiT from scratch on MS-COCO's training images at 256 pixels.

    arXiv 2510.10489 says MMDiT, after Stable Diffusion 3, and MS-COCO at 256. What it leaves open
    is that of U-ViT (arXiv 2209.12152) and REPA (arXiv 2410.06940), whose FIDs are of its size:
    150,000 steps of 256, AdamW, constant rate 1e-4, CLIP-L's 77 states, one of five captions at
    random, every tenth dropped, samples by 50 Euler steps with guidance 2. States are CLIP's as SD3
    takes them: those before the last layer, and the projection. The width is DiT-B's, 768, and so
    is the depth (REPA: `--depth 24`).

    Latents come from `harope encode train2014 data/coco256 --kind coco --field
    annotations=captions_train2014.json --image-size 256 --vae stabilityai/sd-vae-ft-ema`. States
    of all captions take about 50 GB in `data/coco-text`; `--states.when each-step` makes none.
    """
    return TextToImageConfig(
        recipe="coco-mmdit",
        model=MMDiTConfig(
            depth=12,
            num_heads=12,
            head_dim=64,
            patch_size=2,
            in_channels=4,
            text_channels=768,
            pooled_channels=768,
        ),
        data=CaptionedLatentsDataConfig(root="data/coco256"),
        text=PretrainedTextConfig(
            path="openai/clip-vit-large-patch14",
            length=77,
            layer="penultimate",
            pooling="projection",
        ),
        states=StatesConfig(folder="data/coco-text", dtype="float16"),
        sampling=SamplingConfig(sampler="euler", num_steps=50, guidance=2.0),
        prompts=_PROMPTS,
        optimizer=OptimizerConfig(lr=1e-4),
        steps=150_000,
        batch_size=256,
        ema_decay=0.9999,
        precision="bf16",
        num_workers=8,
        log_every=100,
        checkpoint_every=5000,
        sample_every=10_000,
    )


def coco_sd3() -> TextToImageConfig:
    """Stable Diffusion 3 medium, all of its weights, fine-tuned on MS-COCO at 256 pixels.

    arXiv 2510.10489 fine-tunes FLUX alone; rate, decay, steps and batch are those of it. The
    model's own sines and cosines stay beside the encoding; `--encoding ape` is the control: the
    model as it is. `--encoding harope-v1 --encoding_options.frequencies host` is the basis alone,
    which changes nothing at the start. All three text encoders run in every step, with T5's 256
    tokens.

    Latents of 16 channels, with SD3's shift and scale, come from `harope encode train2014
    data/coco256-sd3 --kind coco --field annotations=captions_train2014.json --image-size 256 --vae
    stabilityai/stable-diffusion-3-medium-diffusers --subfolder vae`.
    """
    return TextToImageConfig(
        recipe="coco-sd3",
        model=MMDiTConfig(pretrained=SD3),
        data=CaptionedLatentsDataConfig(root="data/coco256-sd3"),
        text=SD3TextConfig(path=SD3),
        states=StatesConfig(when="each-step", encoder_dtype="bfloat16"),
        sampling=SamplingConfig(sampler="euler", num_steps=28, guidance=5.0),
        prompts=_PROMPTS,
        optimizer=OptimizerConfig(lr=2e-5, weight_decay=0.01),
        steps=4000,
        batch_size=64,
        accumulation=4,
        ema_decay=0.999,
        precision="bf16",
        gradient_checkpointing=True,
        num_workers=8,
        log_every=10,
        checkpoint_every=500,
        sample_every=500,
    )


def _smoke_mmdit(folder: Path) -> TextToImageConfig:
    make_captioned_latents(folder / "latents", num=8, shape=(4, 8, 8))
    encoder, config = save_random_clip(folder / "clip"), coco_mmdit()
    return shrunk_mmdit(
        replace(
            config,
            model=replace(config.model, text_channels=16, pooled_channels=16),
            data=CaptionedLatentsDataConfig(root=str(folder / "latents")),
            text=PretrainedTextConfig(
                path=str(encoder), length=77, layer="penultimate", pooling="projection"
            ),
            states=replace(config.states, folder=str(folder / "text")),
            precision="no",
        )
    )


def _smoke_sd3(folder: Path) -> TextToImageConfig:
    make_captioned_latents(folder / "latents", num=8, shape=(16, 8, 8))
    pipeline = str(save_random_sd3(folder / "sd3", latent_channels=16))
    config = coco_sd3()
    return shrunk_mmdit(
        replace(
            config,
            model=replace(config.model, pretrained=pipeline),
            data=CaptionedLatentsDataConfig(root=str(folder / "latents")),
            text=SD3TextConfig(path=pipeline, length=16),
            states=StatesConfig(when="each-step"),
            accumulation=2,
            precision="no",
        )
    )


RECIPES = (
    Recipe(
        name="coco-mmdit",
        summary="B-sized MMDiT, latents of MS-COCO at 256 pixels, rectified flow: the paper's",
        config=coco_mmdit,
        smoke=_smoke_mmdit,
    ),
    Recipe(
        name="coco-sd3",
        summary="Stable Diffusion 3 medium, all weights, latents of MS-COCO at 256 pixels",
        config=coco_sd3,
        smoke=_smoke_sd3,
    ),
)
