"""coco-mmdit, coco-sd3: text-to-image transformers (MMDiT) on MS-COCO latents."""

from dataclasses import replace
from pathlib import Path

from harope.diffusion.generate import SamplingConfig
from harope.lab.data.latents.captioned import CaptionedLatentsDataConfig
from harope.lab.data.synthetic import make_captioned_latents
from harope.lab.recipes.recipe import PAPER_FINE_TUNING, Recipe, shrink_mmdit, with_tiny_clip
from harope.lab.recipes.tiny_sd3 import save_tiny_clip, save_tiny_sd3
from harope.lab.text import PretrainedTextConfig, SD3TextConfig
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.tasks.text_embeddings import TextEmbeddingConfig
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
    """Train a B-sized MMDiT from scratch on the training images of MS-COCO at 256 pixels.

    arXiv 2510.10489 specifies only an MMDiT as in Stable Diffusion 3 and MS-COCO at 256 pixels. The
    rest follows U-ViT (arXiv 2209.12152) and REPA (arXiv 2410.06940), which report similar FIDs:
    150,000 steps with batches of 256, AdamW, constant learning rate 1e-4, CLIP-L with 77 tokens,
    one of the five captions of an image at random, 10% caption dropout, 50 Euler steps with
    guidance 2. As in SD3, text embeddings are those before CLIP's last layer, and the pooled
    embedding is its projection. Width and depth are those of DiT-B (REPA: `--depth 24`).

    Create the latents with `harope encode train2014 data/coco256 --kind coco --field
    annotations=captions_train2014.json --image-size 256 --vae stabilityai/sd-vae-ft-ema`. The text
    embeddings of all captions take about 50 GB in `data/coco-text`; with `--states.when each-step`
    nothing is stored.

    Returns:
        The full configuration.
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
        states=TextEmbeddingConfig(folder="data/coco-text", dtype="float16"),
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
    """Fine-tune all weights of Stable Diffusion 3 medium on MS-COCO at 256 pixels.

    arXiv 2510.10489 fine-tunes only FLUX; learning rate, weight decay, steps and batch size are
    taken from there. The built-in sines and cosines of the model remain besides the encoding.
    `--encoding ape` is the control, the unmodified model. `--encoding harope-v1
    --encoding_options.frequencies host` adds only the basis, which initially leaves the outputs
    unchanged. All three text encoders run in every step, with 256 T5 tokens.

    Create the latents, of 16 channels and with SD3's scale and shift, with `harope encode train2014
    data/coco256-sd3 --kind coco --field annotations=captions_train2014.json --image-size 256 --vae
    stabilityai/stable-diffusion-3-medium-diffusers --subfolder vae`.

    Returns:
        The full configuration.
    """
    return TextToImageConfig(
        recipe="coco-sd3",
        model=MMDiTConfig(pretrained=SD3),
        data=CaptionedLatentsDataConfig(root="data/coco256-sd3"),
        text=SD3TextConfig(path=SD3),
        states=TextEmbeddingConfig(when="each-step", encoder_dtype="bfloat16"),
        sampling=SamplingConfig(sampler="euler", num_steps=28, guidance=5.0),
        prompts=_PROMPTS,
        accumulation=4,
        ema_decay=0.999,
        **PAPER_FINE_TUNING,
    )


def _smoke_mmdit_data(folder: Path) -> None:
    make_captioned_latents(folder / "latents", num=8, shape=(4, 8, 8))
    save_tiny_clip(folder / "clip")


def _smoke_mmdit(folder: Path) -> TextToImageConfig:
    data = CaptionedLatentsDataConfig(root=str(folder / "latents"))
    config = with_tiny_clip(coco_mmdit(), folder)
    return shrink_mmdit(replace(config, data=data, precision="no"))


def _smoke_sd3_data(folder: Path) -> None:
    make_captioned_latents(folder / "latents", num=8, shape=(16, 8, 8))
    save_tiny_sd3(folder / "sd3", latent_channels=16)


def _smoke_sd3(folder: Path) -> TextToImageConfig:
    pipeline, config = str(folder / "sd3"), coco_sd3()
    return shrink_mmdit(
        replace(
            config,
            model=replace(config.model, pretrained=pipeline),
            data=CaptionedLatentsDataConfig(root=str(folder / "latents")),
            text=SD3TextConfig(path=pipeline, length=96),
            states=TextEmbeddingConfig(when="each-step"),
            accumulation=2,
            precision="no",
        )
    )


RECIPES = (
    Recipe(
        name="coco-mmdit",
        summary="B-sized MMDiT, MS-COCO latents at 256 pixels, rectified flow, as in the paper",
        config=coco_mmdit,
        smoke_config=_smoke_mmdit,
        smoke_data=_smoke_mmdit_data,
        data_side=32,
    ),
    Recipe(
        name="coco-sd3",
        summary="Stable Diffusion 3 medium, all weights, MS-COCO latents at 256 pixels",
        config=coco_sd3,
        smoke_config=_smoke_sd3,
        smoke_data=_smoke_sd3_data,
        data_side=32,
    ),
)
