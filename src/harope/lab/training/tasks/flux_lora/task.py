"""LoRA fine-tuning of FLUX together with an encoding, as a training task."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harope._utils.atomic import atomic_folder
from harope._utils.hub import local_files_only
from harope.diffusion import RectifiedFlow
from harope.integrations import save_adapters
from harope.lab.data.captioned.base import CaptionedBatch, FiniteCaptionedDataset
from harope.lab.data.latents.captioned import CaptionedLatentsDataset
from harope.lab.data.latents.vae import encode_latents, load_vae
from harope.lab.data.registry import open_captioned_dataset
from harope.lab.training.logging import has_metric
from harope.lab.training.task import Task, TensorBatch, grid_path, step_generator
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.flux_lora.data import (
    check_flux_inputs,
    encode_text,
    flux_latent_shape,
)
from harope.lab.training.tasks.flux_lora.samples import FluxSampler
from harope.lab.training.tasks.text_embeddings import CaptionEmbeddingDataset
from harope.lab.training.validation import FixedNoise, ValidationImages, validation_metrics
from harope.models.flux import create_flux, pack, unpack
from harope.rope import text_image_positions

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

ADAPTERS = "adapters"
"""Subfolder of a run with the LoRA and encoding files for diffusers' pipelines."""


class FluxLora(Task):
    """Rectified-flow training of LoRA and an encoding in a frozen FLUX transformer.

    Args:
        config: Configuration of the training.
        device: Device of the model.

    Raises:
        ValueError: If data, text embeddings and model do not fit, or the data is infinite.
        OSError: If the pretrained pipeline is not found.
    """

    config_type = FluxLoraConfig
    config: FluxLoraConfig
    model: "FluxTransformer2DModel"

    def __init__(self, config: FluxLoraConfig, device: torch.device) -> None:
        from diffusers import FlowMatchEulerDiscreteScheduler

        pretrained = config.model.pretrained
        source = open_captioned_dataset(config.data, config.seed)
        if not isinstance(source, FiniteCaptionedDataset):
            raise ValueError(
                f"data is {config.data.kind!r}, which is infinite: choose data of fixed length"
            )
        self._vae = load_vae(pretrained, "vae").to(device)
        # Slicing encodes and decodes one image at a time, to save memory.
        self._vae.enable_slicing()
        self._data_is_latents = isinstance(source, CaptionedLatentsDataset)
        self._shape = flux_latent_shape(source, self._vae)
        # Text is encoded before the transformer is loaded: the encoders are about as large.
        self._text_cache, self._sample_text = encode_text(config, source, device)
        model = create_flux(config.model)
        check_flux_inputs(model.config, self._shape, self._sample_text, config)
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
            pretrained, subfolder="scheduler", local_files_only=local_files_only(pretrained)
        )
        self._shift = 0.0
        if config.shift_times:
            tokens = self._shape[1] * self._shape[2] // 4
            self._shift = logit_shift(dict(scheduler.config), tokens)
        self._sampler = FluxSampler(config, self._vae, scheduler)
        self._flow = RectifiedFlow()
        self._validation: ValidationImages[CaptionedBatch] | None = None
        if config.validation_images:
            self._validation = ValidationImages(source, None, config.validation_images)
        dataset = CaptionEmbeddingDataset(source, self._text_cache.read)
        title = f"lora, {config.model.encoding}"
        super().__init__(config, dataset, model.to(device), title=title)

    def losses(
        self, network: Callable[..., Any], batch: TensorBatch, step: int, batch_offset: int
    ) -> dict[str, Tensor]:
        images, text_embeddings, pooled, _ = batch
        size, device = self.config.batch_size, images.device
        micro_batch = slice(batch_offset, batch_offset + len(images))
        generator = step_generator(self.config.seed, step, device)
        times = sample_flux_times(size, self.config.times, self._shift, generator)[micro_batch]
        noise, posterior = (
            torch.randn((size, *self._shape), generator=generator, device=device)[micro_batch]
            for _ in range(2)
        )
        return self._flow.losses(
            lambda x, t: self._velocity(network, x, t, text_embeddings, pooled),
            self._latents(images, posterior),
            noise,
            times,
        )

    def validation_losses(self, batch: CaptionedBatch, fixed: FixedNoise) -> dict[str, Tensor]:
        """Compute the losses of images at fixed times and noise.

        Args:
            batch: Images or latents and their captions, on any device.
            fixed: Times and noise.

        Returns:
            Losses (batch,), as `losses` does.
        """
        device = self._vae.device
        images, text = batch[0].to(device), self._text_cache.read(batch[1]).to(device)
        noise, posterior = fixed.sample(self._shape, device, count=2)
        times = flux_times_at(fixed.fractions, self.config.times, self._shift).to(device)
        return self._flow.losses(
            lambda x, t: self._velocity(self.model, x, t, text.states, text.pooled),
            self._latents(images, posterior),
            noise,
            times,
        )

    def model_config(self) -> dict[str, Any]:
        return asdict(self.config.model)

    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Write a grid of samples as PNG, with the same prompts and seeds in every report.

        Args:
            run: Run folder; the grid is `samples/step-{step}.png`.
            step: Number of steps done.

        Returns:
            The loss on fixed training images, see `harope.lab.training.validation`.
        """
        metrics = validation_metrics(
            self.model,
            self._validation,
            self.validation_losses,
            self.config.batch_size // self.config.accumulation,
        )
        if self.config.num_samples:
            path = grid_path(run, step)
            self._sampler.save(self.model, self._sample_text, self._shape[1:], path)
        return metrics

    def has_report(self, run: Path, step: int) -> bool:
        validated = self._validation is None or has_metric(run, step, self._validation.metric)
        sampled = not self.config.num_samples or grid_path(run, step).is_file()
        return validated and sampled

    def export(self, run: Path) -> None:
        """Write LoRA and encoding as the two files that `load_adapters` reads.

        Args:
            run: Run folder; the files are in its subfolder `adapters`.
        """
        with atomic_folder(run / ADAPTERS) as temporary:
            save_adapters(self.model, temporary)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters of LoRA and encoding; all others are those of the pipeline.

        Returns:
            The parameters by name.
        """
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the parameters of LoRA and encoding.

        Args:
            state: Parameters by name, as returned by `state_dict`.

        Raises:
            ValueError: If the checkpoint holds other parameters.
        """
        differing = self.state_dict().keys() ^ state.keys()
        if differing:
            raise ValueError(
                f"the checkpoint does not hold the same LoRA and encoding as the model: only one "
                f"of them has {min(differing)}; choose another --out"
            )
        self.model.load_state_dict(state, strict=False)

    def _latents(self, images: Tensor, posterior: Tensor) -> Tensor:
        return images if self._data_is_latents else encode_latents(self._vae, images, posterior)

    def _velocity(
        self,
        network: Callable[..., Any],
        x: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
        text_embeddings: Float[Tensor, "batch length text_channels"],
        pooled: Float[Tensor, "batch pooled_channels"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Evaluate the transformer at times in 0..1000."""
        dtype, (height, width) = getattr(torch, self.config.model.dtype), x.shape[2:]
        length = text_embeddings.shape[1]
        # Positions stay float32: bfloat16 cannot represent all integers above 256.
        ids = text_image_positions(length, height // 2, width // 2, device=x.device)
        distilled = self.model.config.guidance_embeds
        tokens = network(
            hidden_states=pack(x).to(dtype),
            encoder_hidden_states=text_embeddings.to(dtype),
            pooled_projections=pooled.to(dtype),
            # The model multiplies timestep and guidance by 1000.
            timestep=times / 1000,
            # Guidance 1 is no guidance, the distribution of the data.
            guidance=torch.ones_like(times) if distilled else None,
            img_ids=ids[length:],
            txt_ids=ids[:length],
            return_dict=False,
        )[0]
        return unpack(tokens, height, width)


def logit_shift(scheduler: dict[str, Any], tokens: int) -> float:
    """Compute the shift mu of logit t by which diffusers' FLUX scheduler adapts to the resolution.

    The scheduler maps t to e^mu / (e^mu + 1 / t - 1), that is logit t to logit t + mu: more noise
    for more tokens (Esser et al. 2024, arXiv 2403.03206, section 5.3.2).

    Args:
        scheduler: Configuration of a FlowMatchEulerDiscreteScheduler.
        tokens: Number of image tokens.

    Returns:
        The shift mu.
    """
    if not scheduler.get("use_dynamic_shifting", False):
        return math.log(scheduler.get("shift", 1.0))
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    defaults = (256, 4096, 0.5, 1.15)
    values = (scheduler.get(name, value) for name, value in zip(names, defaults, strict=True))
    shift = calculate_shift(tokens, *values)
    return math.log(shift) if scheduler.get("time_shift_type") == "linear" else shift


def sample_flux_times(
    count: int,
    kind: Literal["logit-normal", "uniform"],
    shift: float,
    generator: torch.Generator,
) -> Float[Tensor, "count"]:
    """Sample training times: t = sigmoid(z + shift) with z normal, or logit of uniform.

    Args:
        count: Number of times.
        kind: Distribution of t without shift.
        shift: Shift of logit t, see `logit_shift`.
        generator: Random generator.

    Returns:
        Times in [0, 1] on the generator's device.
    """
    rand = torch.randn if kind == "logit-normal" else torch.rand
    values = rand(count, generator=generator, device=generator.device)
    return torch.sigmoid((values if kind == "logit-normal" else torch.logit(values)) + shift)


def flux_times_at(
    fractions: Float[Tensor, " count"], kind: Literal["logit-normal", "uniform"], shift: float
) -> Float[Tensor, " count"]:
    """Compute quantiles of the distribution that `sample_flux_times` samples from.

    Args:
        fractions: Numbers in (0, 1).
        kind: Distribution of t without shift.
        shift: Shift of logit t.

    Returns:
        Times in [0, 1], float32.
    """
    values = fractions.double()
    logits = torch.special.ndtri(values) if kind == "logit-normal" else torch.logit(values)
    return torch.sigmoid(logits + shift).float()
