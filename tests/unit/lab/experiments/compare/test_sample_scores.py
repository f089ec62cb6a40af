"""Pictures of runs and their scores."""

from dataclasses import replace

import numpy as np
import pytest

from harope.lab.experiments.compare.sample_scores import (
    SampleScoreConfig,
    has_sample_scores,
    sample_scores,
)
from harope.lab.metrics.npz import write_npz
from harope.lab.sampling.class_folder import read_folder
from harope.lab.scenes import decode_class
from harope.lab.training.loop import train
from support.compare import DIGITS, SCENES, SIX, smoke, tiny_job


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    job = tiny_job()
    run = tmp_path_factory.mktemp("trained") / "run"
    train(job.config, run, quiet=True)
    return job.config, run


@pytest.fixture
def reference(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    return str(write_npz(tmp_path / "reference.npz", iter([pictures]), len(pictures)))


def test_scenes_are_drawn_single_ones_first_and_read(trained, tmp_path):
    config, run = trained
    found = sample_scores(run, config, SIX, tmp_path / "drawn", tmp_path / "kept")
    assert set(found) == {"single_object", "colors", "single_exact", "exact"}
    info, pictures = read_folder(tmp_path / "drawn")
    assert len(pictures) == 6
    assert {decode_class(label)[2] for label in info.labels} == {1}


@pytest.mark.filterwarnings("ignore::harope.lab.metrics.frechet.SingularCovarianceWarning")
def test_a_reference_adds_a_distance_and_its_features_are_kept(trained, tmp_path, reference):
    config, run = trained
    drawn = SampleScoreConfig(samples=6, reference=reference, extractor="lite0")
    drawn.check(config)
    found = sample_scores(run, config, drawn, tmp_path / "drawn", tmp_path / "kept")
    assert found["FD-Lite0"] > 0
    (kept,) = (tmp_path / "kept").iterdir()
    written = kept.stat().st_mtime_ns
    again = sample_scores(run, config, drawn, tmp_path / "drawn", tmp_path / "kept")
    assert again == found
    assert kept.stat().st_mtime_ns == written


def test_captioned_scenes_are_scored_by_task(tmp_path):
    config = smoke("scenes-mmdit", tmp_path)
    train(config, tmp_path / "run", quiet=True)
    found = sample_scores(tmp_path / "run", config, SIX, tmp_path / "drawn", tmp_path / "kept")
    assert {"position", "color_attr", "mean"} <= set(found)
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 6


def test_what_nothing_can_score_is_not_drawn(tmp_path):
    assert has_sample_scores(SCENES, SIX)
    assert not has_sample_scores(DIGITS, SIX)
    assert sample_scores(tmp_path, DIGITS, SIX, tmp_path / "drawn", tmp_path / "kept") == {}
    assert not (tmp_path / "drawn").exists()


def test_a_reference_that_cannot_serve_is_refused_before_training(tmp_path, reference):
    drawn = SampleScoreConfig(reference=reference, extractor="lite0")
    with pytest.raises(ValueError, match="digits-vit has no class-conditional samples"):
        drawn.check(DIGITS)
    with pytest.raises(ValueError, match="nowhere"):
        replace(drawn, reference=str(tmp_path / "nowhere")).check(SCENES)
    with pytest.raises(ValueError, match="lite0 has the weights of its package"):
        replace(drawn, extractor_weights="file").check(SCENES)
    latents = replace(SCENES, model=replace(SCENES.model, in_channels=4))
    with pytest.raises(ValueError, match="pass --vae"):
        drawn.check(latents)
    with pytest.raises(ValueError, match="samples 0"):
        SampleScoreConfig(samples=0)


def test_without_a_reference_the_extractor_does_not_matter():
    assert SampleScoreConfig(samples=6, extractor="dinov2").to_dict() == SIX.to_dict()
    assert SampleScoreConfig(samples=6, reference="r").to_dict()["reference"] == "r"
