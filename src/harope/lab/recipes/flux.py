"""flux-lora, flux-lora-emoji: FLUX fine-tuned by LoRA beside an encoding."""

from dataclasses import replace
from pathlib import Path

from harope.lab.data.captioned.emoji import EmojiDataConfig
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig
from harope.lab.data.captioned.webdataset import WebDatasetDataConfig
from harope.lab.data.synthetic import make_captioned_folder
from harope.lab.recipes.recipe import Recipe, brief
from harope.lab.recipes.tiny_flux import save_random_flux
from harope.lab.training.config import OptimizerConfig, RunConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.models.flux import ATTENTION_AND_FEED_FORWARD, FluxModelConfig

RANDOM_FLUX = "data/random-flux"
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
    """FLUX.1-dev by LoRA of rank 32, 4,000 steps of 64 at 1024 pixels.

    arXiv 2510.10489, section 4: AdamW, rate 2e-5, weight decay 0.01, BLIP3o-60k, whose tar files
    are looked for in `data/BLIP3o-60k`; `--data.root` names others, and `--data.kind` other forms:
    captioned-folder, hub, captioned-latents of `harope encode IMAGES OUT --kind .. --image-size
    1024 --vae black-forest-labs/FLUX.1-dev --subfolder vae`. The states of a caption take 4 MB in
    `text_cache`, those of BLIP3o-60k 250 GB: `--text_length 256` halves it. `--encoding axial` is
    the control: FLUX's own RoPE. The paper names neither the times nor the modules that it adapts:
    these are SD3's logit-normal, shifted with the resolution, and those of diffusers' own training.
    """
    return FluxLoraConfig(
        recipe="flux-lora",
        model=FluxModelConfig(),
        data=WebDatasetDataConfig(root="data/BLIP3o-60k/*.tar", image_size=1024),
        text_cache="data/flux-text",
        optimizer=OptimizerConfig(lr=2e-5, weight_decay=0.01),
        steps=4000,
        batch_size=64,
        accumulation=8,
        ema_decay=0.0,
        precision="bf16",
        gradient_checkpointing=True,
        num_workers=8,
        log_every=10,
        checkpoint_every=500,
        sample_every=500,
    )


def flux_lora_emoji() -> FluxLoraConfig:
    """A small random FLUX that learns eight emoji by LoRA alone, to see that all of it works.

    The random pipeline is made in `data/random-flux`; its VAE is the identity, so that latents are
    pixels. A random base teaches LoRA nothing, so every Linear gets it. `npm install
    emoji-datasource-google` brings the emoji; `--data.root` names another place.
    About 7 minutes on one core; the loss falls from 2.7 to 0.14. To draw them again: `harope sample
    data/random-flux --lora RUN/adapters --encoding RUN/adapters --prompts FILE --height 32
    --width 32 --text-length 24`.
    """
    return FluxLoraConfig(
        recipe="flux-lora-emoji",
        model=FluxModelConfig(
            pretrained=RANDOM_FLUX,
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


def _make_random_flux(config: RunConfig) -> None:
    """The pipeline that flux-lora-emoji starts from, where it is not there yet."""
    from accelerate import PartialState

    assert isinstance(config, FluxLoraConfig)
    folder = Path(RANDOM_FLUX)
    with PartialState().main_process_first():
        if config.model.pretrained != RANDOM_FLUX or folder.exists():
            return
        beside = folder.with_name(f".{folder.name}.partial")
        save_random_flux(beside, depth=(2, 2), num_heads=4, axes_dim=(8, 12, 12)).rename(folder)


def _smoke(config: FluxLoraConfig, folder: Path) -> FluxLoraConfig:
    pictures = folder / "pictures"
    make_captioned_folder(pictures, num=8, image_size=16)
    pretrained = save_random_flux(folder / "flux")
    return brief(
        config,
        model=replace(config.model, pretrained=str(pretrained), dtype="float32", rank=4),
        data=CaptionedFolderDataConfig(root=str(pictures), image_size=16),
        text_cache=str(folder / "text"),
        text_length=16,
        accumulation=2,
        precision="no",
        num_samples=2,
        sample_steps=2,
    )


RECIPES = (
    Recipe(
        name="flux-lora",
        summary="LoRA of FLUX.1-dev beside an encoding, captioned images: the paper's settings",
        config=flux_lora,
        smoke=lambda folder: _smoke(flux_lora(), folder),
    ),
    Recipe(
        name="flux-lora-emoji",
        summary="LoRA of a small random FLUX that learns eight emoji by heart",
        config=flux_lora_emoji,
        smoke=lambda folder: _smoke(flux_lora_emoji(), folder),
        prepare=_make_random_flux,
    ),
)
