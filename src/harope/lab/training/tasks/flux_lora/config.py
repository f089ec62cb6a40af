"""Configuration of the LoRA fine-tuning of FLUX."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harope._utils.field_checks import AT_LEAST_ONE, NOT_NEGATIVE, UNIT_INTERVAL, check_range
from harope.lab.data.registry import CaptionedDataConfig
from harope.lab.text.encoder import DEFAULT_MAX_TRUNCATED
from harope.lab.training.task import RunConfig
from harope.models.flux import FluxModelConfig


@dataclass(frozen=True, kw_only=True)
class FluxLoraConfig(RunConfig):
    """Configuration of a LoRA fine-tuning of FLUX.1 on captioned images."""

    REPORTING: ClassVar[tuple[str, ...]] = (
        *RunConfig.REPORTING,
        "num_samples",
        "prompts",
        "sample_steps",
        "sample_guidance",
        "text_cache",
        "validation_images",
    )

    task: Literal["flux-lora"] = "flux-lora"
    """Tag in configuration files."""
    data: Annotated[CaptionedDataConfig, Field(discriminator="kind")]
    """Training data: images, which the pipeline's VAE encodes on the fly, or latents."""
    model: FluxModelConfig
    """Pretrained transformer, encoding and LoRA."""
    text_cache: str
    """Folder of the cached text embeddings; missing captions are encoded before training."""
    text_length: int = 512
    """Number of T5 tokens per caption."""
    max_truncated: float | None = DEFAULT_MAX_TRUNCATED
    """Largest fraction of the captions that may have more T5 tokens; None not to count them."""
    times: Literal["logit-normal", "uniform"] = "logit-normal"
    """Distribution of the training times in [0, 1] (arXiv 2403.03206, section 3.1)."""
    shift_times: bool = True
    """Whether to shift the times like the pipeline's scheduler does at this resolution."""
    num_samples: int = 4
    """Number of images in a sample grid; 0 for no grids."""
    prompts: tuple[str, ...] = ()
    """Prompts of the sample grid, repeated as needed; by default the first captions of the data."""
    sample_steps: int = 28
    """Number of sampling steps."""
    validation_images: int = 64
    """Number of images of the validation loss, which each report computes; 0 for none."""
    sample_guidance: float = 3.5
    """The pipeline's `guidance_scale`, for models with distilled guidance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, AT_LEAST_ONE, "text_length", "sample_steps")
        check_range(self, NOT_NEGATIVE, "num_samples", "sample_guidance", "validation_images")
        check_range(self, UNIT_INTERVAL, "max_truncated")
