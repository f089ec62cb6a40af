"""Fine-tuning FLUX.1 by LoRA beside an encoding: its configuration."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harope.lab.data.registry import CaptionedDataConfig
from harope.lab.training.config import RunConfig
from harope.rope import encoding_config

ATTENTION_AND_FEED_FORWARD = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
)
"""What diffusers' own training of FLUX by LoRA adapts (train_dreambooth_lora_flux.py)."""


@dataclass(frozen=True, kw_only=True)
class FluxModelConfig:
    """A frozen transformer of FLUX.1 with an encoding and LoRA (arXiv 2106.09685) to train."""

    pretrained: str = "black-forest-labs/FLUX.1-dev"
    """Folder or hub id of the pipeline, in diffusers' layout."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Of the frozen weights and the text states; what is trained is float32."""
    encoding: str = "harope"
    """Positional encoding, one of `harope.list_encodings()`; "axial" is FLUX's own: the control."""
    encoding_options: dict[str, Any] = field(default_factory=dict)
    """Parts of the encoding's preset to replace (see EncodingConfig)."""
    rank: int = 32
    """Rank of LoRA."""
    alpha: int = 32
    """LoRA is scaled by alpha / rank."""
    target_modules: tuple[str, ...] = ATTENTION_AND_FEED_FORWARD
    """Ends of the names of the Linears that get LoRA."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank {self.rank} and alpha {self.alpha} must be positive")
        if not self.target_modules:
            raise ValueError("target_modules is empty: name Linears, such as attn.to_q")
        encoding_config(self.encoding, **self.encoding_options)


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
