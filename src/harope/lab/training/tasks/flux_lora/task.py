"""Fine-tuning FLUX by LoRA beside an encoding, as a task."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from harope.diffusion import RectifiedFlow
from harope.integrations import save_adapters
from harope.lab.data.captioned.base import FiniteCaptionedDataset
from harope.lab.data.latents.captioned import CaptionedLatentsDataset
from harope.lab.data.latents.vae import encode_latents, load_vae
from harope.lab.data.registry import open_captioned_dataset
from harope.lab.training.task import Task, TensorBatch, generator_for
from harope.lab.training.tasks.caption_embeddings import EncodedCaptions
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.flux_lora.data import check_flux, encode_text, latents_of
from harope.lab.training.tasks.flux_lora.samples import FluxSampler
from harope.lab.training.tasks.flux_lora.times import draw_times, logit_shift
from harope.models.flux import create_flux, pack, unpack
from harope.rope import text_image_positions

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

ADAPTERS = "adapters"
"""Folder of a run that holds the two files for pipelines."""


class FluxLora(Task):
    """FLUX's transformer, frozen, whose LoRA and encoding learn captioned images.

    Raises ValueError when data, text states and model do not fit, or the data has no end; OSError
    where the pipeline is not found.
    """

    config: FluxLoraConfig
    model: "FluxTransformer2DModel"

    def __init__(self, config: FluxLoraConfig, device: torch.device) -> None:
        from diffusers import FlowMatchEulerDiscreteScheduler

        pretrained = config.model.pretrained
        source = open_captioned_dataset(config.data, config.seed)
        if not isinstance(source, FiniteCaptionedDataset):
            raise ValueError(f"data is {config.data.kind!r}, which has no end: choose another kind")
        self._vae = load_vae(pretrained, "vae").to(device)
        # One image at a time.
        self._vae.enable_slicing()
        self._given_latents = isinstance(source, CaptionedLatentsDataset)
        self._shape = latents_of(source, self._vae)
        # Before the transformer is loaded: the text encoders are about as large.
        states, self._samples = encode_text(config, source, device)
        model = create_flux(config.model)
        check_flux(model.config, self._shape, self._samples, config)
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
            pretrained, subfolder="scheduler"
        )
        self._shift = _shift(config, scheduler.config, self._shape)
        self._sampler = FluxSampler(config, self._vae, scheduler)
        self._flow = RectifiedFlow()
        title = f"lora, {config.model.encoding}"
        super().__init__(
            config, EncodedCaptions(source, states.read), model.to(device), title=title
        )

    def losses(
        self, network: Callable[..., Any], batch: TensorBatch, step: int, first: int
    ) -> dict[str, Tensor]:
        """Mean squared errors of the velocity, noise - latents."""
        images, states, pooled, _ = batch
        size, share = self.config.batch_size, slice(first, first + len(images))
        generator = generator_for(self.config.seed, step, images.device)
        times = draw_times(size, self.config.times, self._shift, generator)[share]
        noise, posterior = (
            torch.randn((size, *self._shape), generator=generator, device=images.device)[share]
            for _ in range(2)
        )
        latents = images if self._given_latents else encode_latents(self._vae, images, posterior)
        return self._flow.losses(
            lambda x, t: self._velocity(network, x, t, states, pooled), latents, noise, times
        )

    def model_config(self) -> dict[str, Any]:
        """Which transformer, and what was put in."""
        return asdict(self.config.model)

    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Draw the same prompts and seeds every time, into one PNG."""
        if self.config.num_samples:
            path = run / "samples" / f"step-{step:08d}.png"
            self._sampler.save(self.model, self._samples, self._shape[1:], path)
        return {}

    def export(self, run: Path) -> None:
        """LoRA and encoding as the two files that `load_adapters` and pipelines read."""
        folder, beside = run / ADAPTERS, run / f".{ADAPTERS}.partial"
        rmtree(beside, ignore_errors=True)
        save_adapters(self.model, beside)
        rmtree(folder, ignore_errors=True)
        beside.rename(folder)

    def state_dict(self) -> dict[str, Tensor]:
        """LoRA and encoding: all else is as it was loaded."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises ValueError where the checkpoint trained other parameters."""
        differing = self.state_dict().keys() ^ state.keys()
        if differing:
            raise ValueError(
                f"the checkpoint does not hold the same LoRA and encoding ({min(differing)}): "
                f"choose another --out"
            )
        self.model.load_state_dict(state, strict=False)

    def _velocity(
        self,
        network: Callable[..., Any],
        x: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
        states: Float[Tensor, "batch length channels_of_text"],
        pooled: Float[Tensor, "batch pooled"],
    ) -> Float[Tensor, "batch channels height width"]:
        """What the transformer returns; times in 0..1000."""
        dtype, (height, width) = getattr(torch, self.config.model.dtype), x.shape[2:]
        length = states.shape[1]
        # float32: in bfloat16 whole numbers run together past 256.
        ids = text_image_positions(length, height // 2, width // 2, device=x.device)
        distilled = self.model.config.guidance_embeds
        tokens = network(
            hidden_states=pack(x).to(dtype),
            encoder_hidden_states=states.to(dtype),
            pooled_projections=pooled.to(dtype),
            # The model multiplies both by 1000.
            timestep=times / 1000,
            # Where guidance was distilled into the model, 1 is none: the data's own distribution.
            guidance=torch.ones_like(times) if distilled else None,
            img_ids=ids[length:],
            txt_ids=ids[:length],
            return_dict=False,
        )[0]
        return unpack(tokens, height, width)


def _shift(config: FluxLoraConfig, scheduler: Any, shape: tuple[int, int, int]) -> float:
    tokens = shape[1] * shape[2] // 4
    return logit_shift(dict(scheduler), tokens) if config.shift_times else 0.0
