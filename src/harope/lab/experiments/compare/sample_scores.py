"""Pictures of a finished run, and their scores."""

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harope._utils.distributed import this_process
from harope.lab.data.captioned.scenes import CaptionedScenesData
from harope.lab.data.labelled.scenes import ScenesData
from harope.lab.data.latents.encode import decode_latents
from harope.lab.evals.scenes import folder_scores, scene_labels, scenes_requests
from harope.lab.metrics.compute import compute_features, compute_features_in_folder, merge_shards
from harope.lab.metrics.distances import DistanceConfig, check_request, compute_metrics
from harope.lab.metrics.features import ExtractorName, load_extractor
from harope.lab.metrics.image_sets import open_images
from harope.lab.metrics.reference import open_reference
from harope.lab.sampling.class_folder import FolderPlan, sample_folder, spread_labels
from harope.lab.sampling.generators import load_text_generator
from harope.lab.sampling.prompt_folder import PlainLayout, PromptPlan, sample_prompts
from harope.lab.sampling.runs import load_generator
from harope.lab.sampling.text_to_image_runs import load_decoder
from harope.lab.training.config import RunConfig, TrainConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig

DISTANCE = DistanceConfig(metrics=("fid",))


@dataclass(frozen=True, kw_only=True)
class DrawnConfig:
    """How many pictures are drawn of each run, and what they are measured against."""

    samples: int = 300
    """Pictures, the same classes or prompts and the same noise for every run."""
    reference: str | None = None
    """Folder of images or `.npz` for a Fréchet distance; None for none."""
    extractor: ExtractorName = "inception"
    """What makes its features."""
    extractor_weights: str | None = None
    """See `harope evaluate distances`."""
    vae: str | None = None
    """AutoencoderKL that decodes latents: folder or hub id."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples {self.samples} must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """What decides the pictures and their scores."""
        return asdict(self) if self.reference else {"samples": self.samples}

    def check(self, config: RunConfig) -> None:
        """Raise ValueError for all that can be known to fail before anything is trained."""
        if self.reference is None:
            return
        if not isinstance(config, TrainConfig):
            raise ValueError(
                f"--reference is given, but {config.recipe} draws no samples of classes: leave it "
                f"out, or choose a recipe of a DiT"
            )
        open_reference(self.reference).needs_features(DISTANCE.metrics)
        load_extractor(self.extractor, self.extractor_weights)
        load_decoder(self.vae, config.model.in_channels, "cpu")


def draws(config: RunConfig, drawn: DrawnConfig) -> bool:
    """Whether pictures of a run are drawn: scenes are read back, others need a reference."""
    return _shows_scenes(config) or drawn.reference is not None


def drawn_scores(
    run: Path, config: RunConfig, drawn: DrawnConfig, out: Path, kept: Path
) -> dict[str, float]:
    """Draw into `out` what is missing there, and score it.

    Scenes: shares of what a reader finds right; with a reference: a Fréchet distance. Features of
    the reference are kept in `kept`.
    """
    found: dict[str, float] = {}
    if not draws(config, drawn):
        return found
    if isinstance(config, TrainConfig):
        _draw_classes(run, config, drawn, out)
    elif isinstance(config, TextToImageConfig):
        _draw_prompts(run, drawn, out)
    if _shows_scenes(config):
        scores = folder_scores(out)["samples"]
        found |= {name: score.rate for name, score in scores.items()}
    return found | (_distance(drawn, out, kept) if drawn.reference else {})


def _shows_scenes(config: RunConfig) -> bool:
    """Whether a reader can read its samples back."""
    if isinstance(config, TrainConfig):
        return isinstance(config.data, ScenesData)
    return isinstance(config, TextToImageConfig) and isinstance(config.data, CaptionedScenesData)


def _draw_classes(run: Path, config: TrainConfig, drawn: DrawnConfig, out: Path) -> None:
    generator, device = load_generator(run), this_process().device
    model = generator.config
    assert model.input_size is not None
    labels = spread_labels(drawn.samples, model.num_classes)
    if isinstance(config.data, ScenesData):
        # Half of them single objects, of which more can be said.
        labels = scene_labels(rounds=math.ceil(drawn.samples / 60))[: drawn.samples]
    plan = FolderPlan(
        shape=(model.in_channels, *model.input_size), labels=labels, count=drawn.samples
    )
    vae = load_decoder(drawn.vae, model.in_channels, device)
    decode = None if vae is None else partial(decode_latents, vae)
    sample_folder(generator, plan, out, decode=decode, device=device, quiet=True)


def _draw_prompts(run: Path, drawn: DrawnConfig, out: Path) -> None:
    generator = load_text_generator(run, device=this_process().device)
    requests = scenes_requests(max(1, drawn.samples // 6))
    plan = PromptPlan(requests=requests, samples_per_prompt=1, batch_size=64)
    made_by = generator.describe()
    sample_prompts(generator.draw, plan, PlainLayout(), out, made_by=made_by, quiet=True)


def _distance(drawn: DrawnConfig, pictures: Path, kept: Path) -> dict[str, float]:
    assert drawn.reference is not None
    extractor = load_extractor(drawn.extractor, drawn.extractor_weights, this_process().device)
    reference, samples = open_reference(drawn.reference), open_images(pictures)
    check_request(DISTANCE, samples, reference, extractor)
    if reference.images is not None and reference.needs_features(DISTANCE.metrics):
        compute_features_in_folder(reference.images, extractor, kept)
        reference.feature_set = merge_shards(kept)
    measured = compute_features(samples, extractor, keep_features=False)
    return {
        one.name: one.value for one in compute_metrics(DISTANCE, measured, reference, extractor)
    }
