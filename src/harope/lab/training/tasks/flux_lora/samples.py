"""Pictures of a FLUX transformer in training, by the pipeline that it came from."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harope.lab.data.image_io import save_grid
from harope.lab.data.latents.vae import Vae, decode_latents
from harope.lab.text import TextEmbeddings
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.models.flux import unpack


class FluxSampler:
    """Draws from cached text states, picture i from the noise of seed i: no text encoder needed."""

    def __init__(self, config: FluxLoraConfig, vae: Vae, scheduler: Any) -> None:
        self._config, self._vae, self._scheduler = config, vae, scheduler

    def save(
        self, transformer: Any, text: TextEmbeddings, size: tuple[int, int], path: Path
    ) -> None:
        """Write pictures of latents of this height and width as one PNG."""
        pipeline = self._pipeline(transformer)
        latents = [self._draw(pipeline, text, size, place) for place in range(len(text.states))]
        save_grid(decode_latents(self._vae, torch.cat(latents), batch_size=1), path)

    def _pipeline(self, transformer: Any) -> Any:
        from diffusers import FluxPipeline

        pipeline = FluxPipeline(
            transformer=transformer,
            vae=self._vae,
            scheduler=self._scheduler,
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _draw(
        self, pipeline: Any, text: TextEmbeddings, size: tuple[int, int], place: int
    ) -> Float[Tensor, "1 channels height width"]:
        config, part = self._config, slice(place, place + 1)
        dtype, device = getattr(torch, config.model.dtype), self._vae.device
        tokens = pipeline(
            prompt_embeds=text.states[part].to(device, dtype),
            pooled_prompt_embeds=text.pooled[part].to(device, dtype),
            generator=torch.Generator().manual_seed(place),
            height=size[0] * pipeline.vae_scale_factor,
            width=size[1] * pipeline.vae_scale_factor,
            num_inference_steps=config.sample_steps,
            guidance_scale=config.sample_guidance,
            output_type="latent",
        ).images
        return unpack(tokens, *size)
