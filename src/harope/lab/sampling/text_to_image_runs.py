"""Generating images with a text-to-image training run."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope._utils.digests import weights_digest
from harope.integrations import NotFoldedWarning, fold
from harope.lab.data.latents.vae import Vae, decode_latents
from harope.lab.sampling.runs import (
    RunOptions,
    describe_decoder,
    find_train_config,
    load_decoder,
    scale_to_size,
)
from harope.lab.sampling.stored_samples import to_images
from harope.lab.text import TextEncoder, open_text_encoder
from harope.lab.training.execution import (
    Precision,
    autocast,
    describe_precision,
    inference_precision,
)
from harope.lab.training.serialization import to_json
from harope.lab.training.tasks.text_to_image import NULL_CAPTION, TextToImageConfig, sample_captions
from harope.models.mmdit import read_mmdit

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel


class RunImageGenerator:
    """Text-to-image generator that samples as the run's own sample grids do.

    Args:
        model: Transformer, on its device.
        config: Configuration of the run, including the sampler.
        encoder: Text encoder.
        size: Height and width of the samples, in pixels or latents.
        vae: Decoder of latents; None for a pixel-space model.
        made_by: Description of model and sampler as JSON values.
        precision: Mixed precision of the model.
    """

    def __init__(
        self,
        model: "SD3Transformer2DModel",
        config: TextToImageConfig,
        encoder: TextEncoder,
        *,
        size: tuple[int, int],
        vae: Vae | None,
        made_by: dict[str, Any],
        precision: Precision = "no",
    ) -> None:
        self._model, self._config, self._encoder = model, config, encoder
        self._shape = (int(model.config.in_channels), *size)
        self._vae, self._made_by, self._precision = vae, made_by, precision
        self._process = config.create_process()
        self._null = encoder.encode([NULL_CAPTION])

    @classmethod
    def load(
        cls, path: Path, options: RunOptions, device: torch.device | str
    ) -> "RunImageGenerator":
        """Load a generator, folding the encoding into the weights where possible.

        Args:
            path: Run folder or one of its checkpoints.
            options: Changes to the run's sampling settings.
            device: Device of the model.

        Returns:
            The generator, whose model is on the device.

        Raises:
            ValueError: If the run is of another task, has no checkpoint, or generates latents while
                `options.vae` is None.
        """
        config = find_train_config(path)
        if not isinstance(config, TextToImageConfig):
            raise ValueError(
                f"{path} cannot generate images from prompts: it is neither a saved diffusers "
                f"pipeline (with a model_index.json) nor a run of a text-to-image recipe"
            )
        config = replace(config, sampling=replace(config.sampling, **options.sampling()))
        model, description = read_mmdit(path, weights=options.weights)
        weights = weights_digest(model)
        trained = tuple(description["input_size"])
        size, scaling = scale_to_size(model, options, trained, model.config.patch_size)
        assert size is not None
        vae = load_decoder(options.vae, int(model.config.in_channels), device)
        precision = inference_precision(options.precision, config.precision, device)
        dtype = getattr(torch, config.states.encoder_dtype)
        encoder = open_text_encoder(config.text, device, dtype)
        made_by = {
            "model": description,
            "weights": weights,
            "train": to_json(config),
            "text_encoder": encoder.identity,
            "size": size,
            "scaling": scaling,
            "vae": describe_decoder(vae),
            **describe_precision(precision),
        }
        return cls(
            _folded(model).to(device),
            config,
            encoder,
            size=size,
            vae=vae,
            made_by=made_by,
            precision=precision,
        )

    def generate(
        self, prompts: list[str], seeds: list[int]
    ) -> UInt8[Tensor, "batch height width 3"]:
        captions = self._encoder.encode(prompts)
        with autocast(self._precision, next(self._model.parameters()).device):
            samples = sample_captions(
                self._model,
                self._process,
                captions,
                self._null,
                shape=self._shape,
                seeds=seeds,
                config=self._config.sampling,
            )
        return to_images(samples if self._vae is None else decode_latents(self._vae, samples))

    def describe(self) -> dict[str, Any]:
        return self._made_by


def _folded(model: "SD3Transformer2DModel") -> "SD3Transformer2DModel":
    with warnings.catch_warnings():
        # With QK-norm, matrices cannot be folded; the samples are the same either way.
        warnings.simplefilter("ignore", NotFoldedWarning)
        fold(model)
    return model
