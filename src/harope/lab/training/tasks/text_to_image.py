"""Text-to-image rectified flow as a task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from harope.diffusion import FlowConfig, Process, RectifiedFlow
from harope.diffusion.generate import SamplingConfig, generate
from harope.diffusion.sampling import sampler_for
from harope.lab.data.image_io import grid_columns, save_grid
from harope.lab.data.registry import CaptionedDataConfig, open_captioned_dataset
from harope.lab.text import TextConfig, TextEmbeddings
from harope.lab.training.config import RunConfig
from harope.lab.training.step_rng import draws_of_step
from harope.lab.training.task import Task, TensorBatch, check_shape
from harope.lab.training.tasks.text_embeddings import StatesConfig, open_text_input, unpack_captions
from harope.models.mmdit import MMDiTConfig, create_mmdit, describe_mmdit, predict

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

NULL_CAPTION = ""


@dataclass(frozen=True, kw_only=True)
class TextToImageConfig(RunConfig):
    """Text-to-image generation by an MMDiT."""

    REPORTING: ClassVar[tuple[str, ...]] = (*RunConfig.REPORTING, "sampling", "prompts")

    task: Literal["text-to-image"] = "text-to-image"
    """Tells its JSON from that of other tasks."""
    model: MMDiTConfig
    """The network."""
    data: Annotated[CaptionedDataConfig, Field(discriminator="kind")]
    """What it learns from."""
    text: Annotated[TextConfig, Field(discriminator="kind")]
    """What encodes its captions."""
    states: StatesConfig = field(default_factory=StatesConfig)
    """When they are encoded."""
    caption_dropout: float = 0.1
    """Share of captions that become the empty one, for classifier-free guidance."""
    diffusion: FlowConfig = field(default_factory=FlowConfig)
    """The process and its loss."""
    sampling: SamplingConfig
    """How its samples are drawn."""
    prompts: tuple[str, ...]
    """Captions of the sample grid, one picture each; choose some that training does not see."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"caption_dropout {self.caption_dropout} must lie in [0, 1)")
        if not self.prompts:
            raise ValueError("prompts is empty: name at least one caption to draw")
        sampler_for(self.sampling.sampler, self.create_process())

    def create_process(self) -> RectifiedFlow:
        """The diffusion process."""
        return RectifiedFlow(self.diffusion)


class TextToImage(Task):
    """An MMDiT that learns to remove noise, given captions; some are dropped.

    Raises ValueError when data and model do not fit.
    """

    config: TextToImageConfig
    model: "SD3Transformer2DModel"

    def __init__(self, config: TextToImageConfig, device: torch.device) -> None:
        source = open_captioned_dataset(config.data, config.seed)
        others = [NULL_CAPTION, *config.prompts]
        # Before the model is made: text encoders may be as large.
        # Whether a cache was there must not decide the weights.
        with torch.random.fork_rng(devices=[]):
            stream, self._read = open_text_input(config.text, config.states, source, others, device)
        self._null = self._read([NULL_CAPTION]).to(device)
        self.architecture = replace(config.model, input_size=source.shape[1:])
        model = create_mmdit(self.architecture)
        check_shape(
            source.shape, in_channels=model.config.in_channels, patch_size=model.config.patch_size
        )
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        super().__init__(config, stream, model.to(device), title=config.model.encoding)
        self.process = config.create_process()
        self._check_text(self._null)

    def losses(
        self, network: Callable[..., Any], batch: TensorBatch, step: int, first: int
    ) -> dict[str, Tensor]:
        """The flow's losses at random times, with random noise and dropped captions."""
        config, (x0, *text) = self.config, batch
        draws = draws_of_step(
            self.process, x0, seed=config.seed, step=step, first=first, batch_size=config.batch_size
        )
        states, pooled = self._encoded(text)
        dropped = draws.uniform[:, None] < config.caption_dropout
        states = torch.where(dropped[..., None], self._null.states, states)
        pooled = torch.where(dropped, self._null.pooled, pooled)
        return self.process.losses(
            lambda x, t: predict(network, x, t, states, pooled), x0, draws.noise, draws.times
        )

    def model_config(self) -> dict[str, Any]:
        """The MMDiT's."""
        return describe_mmdit(self.architecture, self.model)

    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Draw the prompts, with the same seeds every time, into one PNG; captions.txt names them.

        Latents are shown as they are: their first three channels as colours.
        """
        prompts = self.config.prompts
        samples = sample_captions(
            self.model,
            self.process,
            self._read(prompts),
            self._null,
            shape=self.source.shape,
            seeds=range(len(prompts)),
            config=self.config.sampling,
        )
        save_grid(samples, run / "samples" / f"step-{step:08d}.png")
        (run / "samples" / "captions.txt").write_text(_table(prompts), encoding="utf-8")
        return {}

    def _encoded(self, text: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """States and pooled vectors of a batch's captions."""
        if len(text) == 1:
            encoded = self._read(unpack_captions(text[0])).to(text[0].device)
            return encoded.states, encoded.pooled
        states, pooled, _ = text
        return states, pooled

    def _check_text(self, states: TextEmbeddings) -> None:
        """Raise ValueError unless the model takes what the encoder gives."""
        found = states.states.shape[2], states.pooled.shape[1]
        taken = self.model.config.joint_attention_dim, self.model.config.pooled_projection_dim
        if found != taken:
            raise ValueError(
                f"the text encoder {self.config.text.kind!r} gives states of {found[0]} channels "
                f"and pooled vectors of {found[1]}, but the model takes {taken[0]} and {taken[1]}: "
                f"set --text_channels {found[0]} --pooled_channels {found[1]}"
            )


def sample_captions(
    model: "SD3Transformer2DModel",
    process: Process,
    captions: TextEmbeddings,
    null: TextEmbeddings,
    *,
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    config: SamplingConfig,
) -> Float[Tensor, "batch channels height width"]:
    """Samples of `shape`, one per caption and seed, each depending on these two alone.

    `null` is of the empty caption, one row, and the other branch of classifier-free guidance.
    """
    device = next(model.parameters()).device
    states, pooled, _ = (
        torch.cat(parts).to(device)
        for parts in zip(captions.to(device), null.to(device), strict=True)
    )
    # Guidance chooses among rows as it does among classes; the last one is the empty caption.
    return generate(
        lambda x, t, rows: predict(model, x, t, states[rows], pooled[rows]),
        process,
        shape=shape,
        labels=range(len(seeds)),
        null_class=len(seeds),
        seeds=seeds,
        config=config,
        device=device,
    )


def _table(prompts: Sequence[str]) -> str:
    """Captions by row and column of the sample grid."""
    columns = grid_columns(len(prompts))
    return "".join(
        f"row {place // columns + 1}, column {place % columns + 1}: {prompt}\n"
        for place, prompt in enumerate(prompts)
    )
