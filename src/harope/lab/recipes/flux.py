"""flux-lora, flux-lora-emoji: LoRA fine-tuning of FLUX together with an encoding."""

from dataclasses import replace
from pathlib import Path

from harope._utils.atomic import atomic_folder
from harope.lab.data.captioned.emoji import EmojiDataConfig
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig
from harope.lab.data.captioned.webdataset import WebDatasetDataConfig
from harope.lab.data.synthetic import make_captioned_folder
from harope.lab.recipes.recipe import PAPER_FINE_TUNING, Recipe, shorten
from harope.lab.recipes.tiny_flux import save_tiny_flux
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.models.flux import ATTENTION_AND_FEED_FORWARD, FluxModelConfig

TINY_FLUX = "data/random-flux"
"""Folder of the pipeline of flux-lora-emoji."""
EMOJI = (
    "red apple",
    "automobile",
    "sunflower",
    "tropical fish",
    "strawberry",
    "penguin",
    "slice of pizza",
    "cactus",
)
_ALL_LINEARS = (
    *ATTENTION_AND_FEED_FORWARD,
    "x_embedder",
    "context_embedder",
    "linear_1",
    "linear_2",
    "norm1.linear",
    "norm1_context.linear",
    "norm.linear",
    "norm_out.linear",
    "proj_mlp",
    "proj_out",
)


def flux_lora() -> FluxLoraConfig:
    """Fine-tune FLUX.1-dev by LoRA of rank 32 at 1024 pixels: 4,000 steps, batches of 64.

    Settings of arXiv 2510.10489, section 4: AdamW, learning rate 2e-5, weight decay 0.01,
    BLIP3o-60k. The paper specifies neither the distribution of times nor the adapted modules; here
    they are SD3's logit-normal distribution, shifted with the resolution, and the modules of
    diffusers' training script. `--encoding axial`, FLUX's built-in RoPE, is the control.

    The data set's tar files are read from `data/BLIP3o-60k`. Set `--data.root` if they are
    elsewhere, or `--data.kind` to read captioned-folder, hub or captioned-latents; latents are
    created by `harope encode IMAGES OUT --kind KIND --image-size 1024 --vae
    black-forest-labs/FLUX.1-dev --subfolder vae`. Text embeddings take 4 MB per caption in
    `text_cache`, 250 GB for BLIP3o-60k; `--text_length 256` halves that.

    Returns:
        The full configuration.
    """
    return FluxLoraConfig(
        recipe="flux-lora",
        model=FluxModelConfig(),
        data=WebDatasetDataConfig(root="data/BLIP3o-60k/*.tar", image_size=1024),
        text_cache="data/flux-text",
        accumulation=8,
        ema_decay=0.0,
        **PAPER_FINE_TUNING,
    )


def flux_lora_emoji() -> FluxLoraConfig:
    """Train a tiny random FLUX to memorise eight emoji by LoRA, to check the complete pipeline.

    The pipeline is created in `data/random-flux`. Its VAE is the identity, so latents are pixels.
    Since its random weights know nothing, LoRA adapts every linear layer. `npm install
    emoji-datasource-google` installs the emoji; set `--data.root` if they are elsewhere.

    Takes about 7 minutes on one CPU core; the loss falls from 2.7 to 0.14. Sample from the result
    with `harope sample data/random-flux --lora RUN/adapters --encoding RUN/adapters --prompts FILE
    --height 32 --width 32 --text-length 24`.

    Returns:
        The full configuration.
    """
    return FluxLoraConfig(
        recipe="flux-lora-emoji",
        model=FluxModelConfig(
            pretrained=TINY_FLUX,
            dtype="float32",
            rank=64,
            alpha=64,
            target_modules=_ALL_LINEARS,
        ),
        data=EmojiDataConfig(
            root="node_modules/emoji-datasource-google", image_size=32, only=EMOJI
        ),
        text_cache="data/random-flux-text",
        text_length=24,
        optimizer=OptimizerConfig(
            lr=2e-3, betas=(0.9, 0.99), warmup_steps=20, decay=0.5, clip_norm=1.0
        ),
        steps=600,
        batch_size=8,
        ema_decay=0.0,
        log_every=20,
        checkpoint_every=200,
        sample_every=200,
        num_samples=8,
    )


def _create_tiny_flux(config: RunConfig) -> None:
    """Create the pipeline that flux-lora-emoji starts from, if it is missing."""
    from harope._utils.distributed import main_process_first

    assert isinstance(config, FluxLoraConfig)
    folder = Path(TINY_FLUX)
    with main_process_first():
        if config.model.pretrained != TINY_FLUX or folder.exists():
            return
        with atomic_folder(folder) as temporary:
            save_tiny_flux(temporary, depth=(2, 2), num_heads=4, axes_dim=(8, 12, 12))


def _smoke_data(folder: Path) -> None:
    make_captioned_folder(folder / "images", num=8, image_size=16)
    save_tiny_flux(folder / "flux")


def _smoke_config(config: FluxLoraConfig, folder: Path) -> FluxLoraConfig:
    return shorten(
        config,
        model=replace(config.model, pretrained=str(folder / "flux"), dtype="float32", rank=4),
        data=CaptionedFolderDataConfig(root=str(folder / "images"), image_size=16),
        text_cache=str(folder / "text"),
        text_length=16,
        max_truncated=None,
        accumulation=2,
        precision="no",
        num_samples=2,
        sample_steps=2,
        validation_images=4,
    )


RECIPES = (
    Recipe(
        name="flux-lora",
        summary="FLUX.1-dev with LoRA and an encoding, captioned images: the paper's settings",
        config=flux_lora,
        smoke_config=lambda folder: _smoke_config(flux_lora(), folder),
        smoke_data=_smoke_data,
    ),
    Recipe(
        name="flux-lora-emoji",
        summary="tiny random FLUX with LoRA that memorises eight emoji",
        config=flux_lora_emoji,
        smoke_config=lambda folder: _smoke_config(flux_lora_emoji(), folder),
        smoke_data=_smoke_data,
        prepare=_create_tiny_flux,
    ),
)
