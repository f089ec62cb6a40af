"""Sample grids of a FLUX transformer in training, made with diffusers' pipeline."""

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
    """Samples from cached text embeddings, so that no text encoder is needed.

    Args:
        config: Dtype, number of steps and guidance.
        vae: VAE of the pipeline.
        scheduler: Scheduler of the pipeline.
    """

    def __init__(self, config: FluxLoraConfig, vae: Vae, scheduler: Any) -> None:
        self._config, self._vae, self._scheduler = config, vae, scheduler

    def save(
        self, transformer: Any, text: TextEmbeddings, size: tuple[int, int], path: Path
    ) -> None:
        """Sample one image per caption and save them as a grid; image i starts from seed i.

        Args:
            transformer: The FLUX transformer.
            text: Text embeddings of the captions.
            size: Height and width of the latents.
            path: PNG file to write.
        """
        pipeline = self._pipeline(transformer)
        latents = [self._sample(pipeline, text, size, index) for index in range(len(text.states))]
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

    def _sample(
        self, pipeline: Any, text: TextEmbeddings, size: tuple[int, int], index: int
    ) -> Float[Tensor, "1 channels height width"]:
        config, row = self._config, slice(index, index + 1)
        dtype, device = getattr(torch, config.model.dtype), self._vae.device
        tokens = pipeline(
            prompt_embeds=text.states[row].to(device, dtype),
            pooled_prompt_embeds=text.pooled[row].to(device, dtype),
            generator=torch.Generator().manual_seed(index),
            height=size[0] * pipeline.vae_scale_factor,
            width=size[1] * pipeline.vae_scale_factor,
            num_inference_steps=config.sample_steps,
            guidance_scale=config.sample_guidance,
            output_type="latent",
        ).images
        return unpack(tokens, *size)
