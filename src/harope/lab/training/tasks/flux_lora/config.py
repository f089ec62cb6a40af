"""Fine-tuning FLUX.1 by LoRA beside an encoding: its configuration."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harope.lab.data.registry import CaptionedDataConfig
from harope.lab.training.config import RunConfig
from harope.models.flux import FluxModelConfig


@dataclass(frozen=True, kw_only=True)
class FluxLoraConfig(RunConfig):
    """FLUX.1, fine-tuned on images with captions."""

    REPORTING: ClassVar[tuple[str, ...]] = (
        *RunConfig.REPORTING,
        "num_samples",
        "prompts",
        "sample_steps",
        "sample_guidance",
        "text_cache",
    )

    task: Literal["flux-lora"] = "flux-lora"
    """Tells its JSON from that of other tasks."""
    data: Annotated[CaptionedDataConfig, Field(discriminator="kind")]
    """What it learns from: images, which the pipeline's VAE encodes as they come, or latents."""
    model: FluxModelConfig
    """The network."""
    text_cache: str
    """Folder of the captions' states; those that it lacks are encoded at the start."""
    text_length: int = 512
    """Tokens of T5."""
    times: Literal["logit-normal", "uniform"] = "logit-normal"
    """How the times of flow are drawn, in 0..1 (arXiv 2403.03206, section 3.1)."""
    shift_times: bool = True
    """Whether they are shifted as the pipeline's scheduler shifts its own at this resolution."""
    num_samples: int = 4
    """Pictures in a sample grid; 0 for none."""
    prompts: tuple[str, ...] = ()
    """What they show, in turn; the data's first captions where none is given."""
    sample_steps: int = 28
    """Steps of the pipeline's scheduler."""
    sample_guidance: float = 3.5
    """The pipeline's `guidance_scale`, where the model was distilled for it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("text_length", 1), ("num_samples", 0), ("sample_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be at least {least}")
