"""Samples of a finished run and their scores."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harope._utils.distributed import this_process
from harope._utils.field_checks import AT_LEAST_ONE, check_range
from harope.lab.data.captioned.scenes import CaptionedScenesDataConfig
from harope.lab.data.labelled.scenes import ScenesDataConfig
from harope.lab.evals.scenes import folder_scores, scene_labels, scenes_requests
from harope.lab.metrics.compute import compute_features, compute_features_in_folder, merge_shards
from harope.lab.metrics.distances import DistanceConfig, check_request, compute_metrics
from harope.lab.metrics.features import ExtractorName, load_extractor
from harope.lab.metrics.image_sets import open_images
from harope.lab.metrics.reference import open_reference
from harope.lab.sampling.class_folder import FolderPlan, sample_folder, spread_labels
from harope.lab.sampling.generators import load_text_to_image_generator
from harope.lab.sampling.prompt_folder import FlatFolder, PromptPlan, sample_prompts
from harope.lab.sampling.runs import load_class_generator, load_decoder
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig

DISTANCE = DistanceConfig(metrics=("fid",))


@dataclass(frozen=True, kw_only=True)
class SampleScoreConfig:
    """How each run of a comparison is sampled and scored."""

    samples: int = 300
    """Number of samples; all runs use the same classes or prompts and the same noise."""
    reference: str | None = None
    """Reference of a Fréchet distance: folder of images or `.npz` file; None for no distance."""
    extractor: ExtractorName = "inception"
    """Feature extractor of the distance."""
    extractor_weights: str | None = None
    """Weights of the extractor, see `harope evaluate distances`."""
    vae: str | None = None
    """AutoencoderKL that decodes latents: folder or hub id."""

    def __post_init__(self) -> None:
        check_range(self, AT_LEAST_ONE, "samples")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that determine the samples and their scores, for JSON.

        Returns:
            Values by field; without a reference, the number of samples alone.
        """
        return asdict(self) if self.reference else {"samples": self.samples}

    def check(self, config: RunConfig) -> None:
        """Check everything that can be checked before training.

        Args:
            config: Configuration of the runs.

        Raises:
            ValueError: A reference is set, but the recipe does not sample classes, or the
                reference, the extractor or the VAE cannot be used.
        """
        if self.reference is None:
            return
        if not isinstance(config, TrainConfig):
            raise ValueError(
                f"--reference is given, but {config.recipe} has no class-conditional samples to "
                f"compare with it; omit it, or choose a class-conditional recipe"
            )
        open_reference(self.reference).needs_features(DISTANCE.metrics)
        load_extractor(self.extractor, self.extractor_weights)
        load_decoder(self.vae, config.model.in_channels, "cpu")


def has_sample_scores(config: RunConfig, scoring: SampleScoreConfig) -> bool:
    """Return whether a run is sampled: scenes always are, other datasets need a reference.

    Args:
        config: Configuration of the run.
        scoring: Settings of the samples.

    Returns:
        True if `sample_scores` samples the run.
    """
    return _shows_scenes(config) or scoring.reference is not None


def sample_scores(
    run: Path, config: RunConfig, scoring: SampleScoreConfig, out: Path, reference_cache: Path
) -> dict[str, float]:
    """Sample a finished run and score the samples.

    Args:
        run: Run folder.
        config: Configuration of the run.
        scoring: Number of samples, and the reference of a Fréchet distance.
        out: Folder of the samples; samples that are missing there are added, and those of other
            weights replaced.
        reference_cache: Folder in which the features of the reference are cached.

    Returns:
        For scenes, the proportion of samples that satisfy each task according to the scenes reader;
        with a reference, a Fréchet distance under the name that depends on the extractor. Empty if
        the run is not sampled, see `has_sample_scores`.
    """
    metrics: dict[str, float] = {}
    if not has_sample_scores(config, scoring):
        return metrics
    if isinstance(config, TrainConfig):
        _sample_classes(run, config, scoring, out)
    elif isinstance(config, TextToImageConfig):
        _sample_prompts(run, scoring, out)
    if _shows_scenes(config):
        scores = folder_scores(out)["samples"]
        metrics |= {name: score.rate for name, score in scores.items()}
    return metrics | (_distance(scoring, out, reference_cache) if scoring.reference else {})


def _shows_scenes(config: RunConfig) -> bool:
    """Return whether the samples are scenes, which the scenes reader can score."""
    if isinstance(config, TrainConfig):
        return isinstance(config.data, ScenesDataConfig)
    return isinstance(config, TextToImageConfig) and isinstance(
        config.data, CaptionedScenesDataConfig
    )


def _sample_classes(run: Path, config: TrainConfig, scoring: SampleScoreConfig, out: Path) -> None:
    generator, device = load_class_generator(run), this_process().device
    model = generator.config
    assert model.input_size is not None
    labels = spread_labels(scoring.samples, model.num_classes or 0)
    if isinstance(config.data, ScenesDataConfig):
        # Half of the samples show a single object, which the primary scores are about.
        labels = scene_labels(rounds=math.ceil(scoring.samples / 60))[: scoring.samples]
    plan = FolderPlan(
        shape=(model.in_channels, *model.input_size), labels=labels, count=scoring.samples
    )
    vae = load_decoder(scoring.vae, model.in_channels, device)
    sample_folder(generator, plan, out, vae=vae, device=device, overwrite=True, quiet=True)


def _sample_prompts(run: Path, scoring: SampleScoreConfig, out: Path) -> None:
    generator = load_text_to_image_generator(run, device=this_process().device)
    requests = scenes_requests(max(1, scoring.samples // 6))
    plan = PromptPlan(requests=requests, samples_per_prompt=1, batch_size=64)
    made_by = generator.describe()
    sample_prompts(
        generator.generate, plan, FlatFolder(), out, made_by=made_by, overwrite=True, quiet=True
    )


def _distance(scoring: SampleScoreConfig, folder: Path, reference_cache: Path) -> dict[str, float]:
    assert scoring.reference is not None
    extractor = load_extractor(scoring.extractor, scoring.extractor_weights, this_process().device)
    reference, samples = open_reference(scoring.reference), open_images(folder)
    check_request(DISTANCE, samples, reference, extractor)
    if reference.images is not None and reference.needs_features(DISTANCE.metrics):
        compute_features_in_folder(reference.images, extractor, reference_cache)
        reference.feature_set = merge_shards(reference_cache)
    features = compute_features(samples, extractor, keep_features=False)
    return {
        item.name: item.value for item in compute_metrics(DISTANCE, features, reference, extractor)
    }
