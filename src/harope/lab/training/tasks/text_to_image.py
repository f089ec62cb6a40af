"""Text-to-image rectified flow as a training task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from harope._utils.atomic import write_text_atomic
from harope._utils.field_checks import FRACTION, NOT_NEGATIVE, check_range
from harope._utils.rng import isolated_torch_rng
from harope.diffusion import FlowConfig, Process, RectifiedFlow
from harope.diffusion.generate import SamplingConfig, generate
from harope.diffusion.sampling import check_sampling
from harope.lab.data.captioned.base import (
    CaptionedBatch,
    CaptionedDataset,
    FiniteCaptionedDataset,
)
from harope.lab.data.image_io import grid_columns, save_grid
from harope.lab.data.registry import (
    CaptionedDataConfig,
    open_captioned_dataset,
    open_captioned_validation_data,
)
from harope.lab.text import TextConfig, TextEmbeddings
from harope.lab.training.logging import has_metric
from harope.lab.training.task import (
    RunConfig,
    Task,
    TensorBatch,
    captions_path,
    check_shape,
    grid_path,
    noise_for_step,
)
from harope.lab.training.tasks.text_embeddings import (
    TextEmbeddingConfig,
    open_text_conditioning,
    unpack_captions,
)
from harope.lab.training.validation import (
    FixedNoise,
    ValidationImages,
    losses_at,
    validation_metrics,
)
from harope.models.mmdit import MMDiTConfig, create_mmdit, mmdit_to_dict, run_mmdit
from harope.rope import cached

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

NULL_CAPTION = ""
"""Caption of the unconditional model in classifier-free guidance."""
_CHOSEN_PROMPTS = 16
"""Number of captions of the data in a sample grid, if no prompts are given."""


@dataclass(frozen=True, kw_only=True)
class TextToImageConfig(RunConfig):
    """Configuration of a text-to-image training with an MMDiT."""

    REPORTING: ClassVar[tuple[str, ...]] = (
        *RunConfig.REPORTING,
        "sampling",
        "prompts",
        "validation_images",
    )

    task: Literal["text-to-image"] = "text-to-image"
    """Tag in configuration files."""
    model: MMDiTConfig
    """The MMDiT."""
    data: Annotated[CaptionedDataConfig, Field(discriminator="kind")]
    """Training data."""
    text: Annotated[TextConfig, Field(discriminator="kind")]
    """Text encoder."""
    states: TextEmbeddingConfig = field(default_factory=TextEmbeddingConfig)
    """When captions are encoded, and where their embeddings are cached."""
    caption_dropout: float = 0.1
    """Probability that a caption is replaced by the empty one, for classifier-free guidance."""
    diffusion: FlowConfig = field(default_factory=FlowConfig)
    """Diffusion process."""
    sampling: SamplingConfig
    """How the sample grids are sampled."""
    prompts: tuple[str, ...] = ()
    """Captions of the sample grid, one image each; preferably not in the training data. Empty: some
    captions of the training data."""
    validation_images: int = 256
    """Number of images of the validation loss, which each report computes; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, FRACTION, "caption_dropout")
        check_range(self, NOT_NEGATIVE, "validation_images")
        check_sampling(self.sampling.sampler, self.create_process(), self.sampling.num_steps)

    def create_process(self) -> RectifiedFlow:
        """Create the diffusion process.

        Returns:
            Rectified flow.
        """
        return RectifiedFlow(self.diffusion)


class TextToImage(Task):
    """Rectified-flow training of an MMDiT on captioned images, with caption dropout for guidance.

    Args:
        config: Configuration of the training.
        device: Device of the model.

    Raises:
        ValueError: If data, text encoder and model do not fit.
        OSError: If the text encoder or the pretrained model is not found.
    """

    config_type = TextToImageConfig
    config: TextToImageConfig
    model: "SD3Transformer2DModel"

    def __init__(self, config: TextToImageConfig, device: torch.device) -> None:
        source = open_captioned_dataset(config.data, config.seed)
        self.prompts = config.prompts or _choose_prompts(source)
        captions = [NULL_CAPTION, *self.prompts]
        # Text is encoded before the model is created, since the encoders may be as large. The
        # initial weights must not depend on whether the encoder ran or a cache existed.
        with isolated_torch_rng():
            dataset, self._embed = open_text_conditioning(
                config.text, config.states, source, captions, device
            )
        self._null = self._embed([NULL_CAPTION]).to(device)
        self.architecture = replace(config.model, input_size=source.shape[1:])
        model = create_mmdit(self.architecture)
        check_shape(
            source.shape, in_channels=model.config.in_channels, patch_size=model.config.patch_size
        )
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        super().__init__(config, dataset, model.to(device), title=config.model.encoding)
        self.process = config.create_process()
        self._check_text_channels(self._null)
        self._validation: ValidationImages[CaptionedBatch] | None = None
        if config.validation_images:
            held_out = open_captioned_validation_data(config.data, config.seed)
            self._validation = ValidationImages(source, held_out, config.validation_images)

    def to_device(self, batch: TensorBatch, device: torch.device) -> TensorBatch:
        """Copy images and embeddings, but leave captions to the host, which tokenizes them.

        Args:
            batch: Images with the embeddings of their captions, or with packed captions.
            device: Device of the model.

        Returns:
            The tensors, as `losses` takes them.
        """
        images, *text = batch
        if len(text) == 1:
            return *super().to_device((images,), device), *text
        return super().to_device(batch, device)

    def losses(
        self, network: Callable[..., Any], batch: TensorBatch, step: int, batch_offset: int
    ) -> dict[str, Tensor]:
        config, (x0, *text) = self.config, batch
        times, noise, uniform = noise_for_step(self.process, x0, config, step, batch_offset)
        text_embeddings, pooled = self._embed_batch(text, x0.device)
        dropped = uniform[:, None] < config.caption_dropout
        text_embeddings = torch.where(dropped[..., None], self._null.states, text_embeddings)
        pooled = torch.where(dropped, self._null.pooled, pooled)
        return self.process.losses(
            lambda x, t: run_mmdit(network, x, t, text_embeddings, pooled), x0, noise, times
        )

    def validation_losses(self, batch: CaptionedBatch, fixed: FixedNoise) -> dict[str, Tensor]:
        """Compute the losses of images at fixed times and noise, with all captions.

        Args:
            batch: Images and captions, on any device.
            fixed: Times and noise.

        Returns:
            Losses (batch,), as `losses` does.
        """
        device = next(self.model.parameters()).device
        x0, text = batch[0].to(device), self._embed(batch[1]).to(device)
        return losses_at(
            self.process,
            lambda x, t: run_mmdit(self.model, x, t, text.states, text.pooled),
            x0,
            fixed,
        )

    def model_config(self) -> dict[str, Any]:
        return mmdit_to_dict(self.architecture, self.model)

    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Write a grid of samples of the prompts as PNG, and captions.txt, which lists the prompts.

        Seeds are the same in every report. The validation loss is computed as well, see
        `harope.lab.training.validation`. Latents are not decoded: their first three channels are
        shown as RGB.

        Args:
            run: Run folder; the grid is `samples/step-{step}.png`.
            step: Number of steps done.

        Returns:
            The validation loss, if there is one.
        """
        prompts = self.prompts
        with self.evaluation_autocast():
            metrics = validation_metrics(
                self.model,
                self._validation,
                self.validation_losses,
                self.config.batch_size // self.config.accumulation,
            )
            samples = sample_captions(
                self.model,
                self.process,
                self._embed(prompts),
                self._null,
                shape=self.source.shape,
                seeds=range(len(prompts)),
                config=self.config.sampling,
            )
        # The grid is written last: it shows that the report is complete.
        write_text_atomic(captions_path(run), _format_captions(prompts))
        save_grid(samples, grid_path(run, step))
        return metrics

    def has_report(self, run: Path, step: int) -> bool:
        validated = self._validation is None or has_metric(run, step, self._validation.metric)
        return validated and grid_path(run, step).is_file()

    def _embed_batch(self, text: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the token and pooled embeddings of a batch's captions, encoding them if needed."""
        if len(text) == 1:
            encoded = self._embed(unpack_captions(text[0])).to(device)
            return encoded.states, encoded.pooled
        text_embeddings, pooled, _ = text
        return text_embeddings, pooled

    def _check_text_channels(self, text: TextEmbeddings) -> None:
        """Raise ValueError unless the text embeddings have the channels that the model expects."""
        actual = text.states.shape[2], text.pooled.shape[1]
        expected = self.model.config.joint_attention_dim, self.model.config.pooled_projection_dim
        if actual != expected:
            raise ValueError(
                f"text encoder {self.config.text.kind!r} has embeddings of {actual[0]} channels "
                f"and pooled embeddings of {actual[1]}, but the model takes {expected[0]} and "
                f"{expected[1]}: set --text_channels {actual[0]} --pooled_channels {actual[1]}"
            )


def _choose_prompts(source: CaptionedDataset) -> tuple[str, ...]:
    """Choose captions of the data, evenly spaced in its order if it is finite."""
    if not isinstance(source, FiniteCaptionedDataset):
        return tuple(source.samples(range(_CHOSEN_PROMPTS))[1])
    count = min(_CHOSEN_PROMPTS, len(source))
    captions = [source.captions(index * len(source) // count)[0] for index in range(count)]
    return tuple(dict.fromkeys(captions))


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
    """Sample one image or latent per caption; each depends only on its own caption and seed.

    Args:
        model: The MMDiT.
        process: The process that it was trained on.
        captions: Text embeddings of the captions.
        null: Text embeddings of the empty caption, one row, for classifier-free guidance.
        shape: Shape of one sample, (channels, height, width).
        seeds: One seed per caption.
        config: Sampler, number of steps and guidance.

    Returns:
        Samples (batch, channels, height, width), float32.
    """
    device = next(model.parameters()).device
    text_embeddings, pooled, _ = (
        torch.cat(parts).to(device)
        for parts in zip(captions.to(device), null.to(device), strict=True)
    )
    # `generate` guides by class labels, so the row of each caption serves as its label; the last
    # row is the empty caption.
    with cached(model):
        return generate(
            lambda x, t, rows: run_mmdit(model, x, t, text_embeddings[rows], pooled[rows]),
            process,
            shape=shape,
            labels=range(len(seeds)),
            null_class=len(seeds),
            seeds=seeds,
            config=config,
            device=device,
        )


def _format_captions(prompts: Sequence[str]) -> str:
    """Format captions with the row and column of their image in the sample grid."""
    columns = grid_columns(len(prompts))
    return "".join(
        f"row {index // columns + 1}, column {index % columns + 1}: {prompt}\n"
        for index, prompt in enumerate(prompts)
    )
