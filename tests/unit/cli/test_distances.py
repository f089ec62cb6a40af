import json

import numpy as np
import pytest

from harope.cli.main import main
from harope.lab.metrics import features as extractors
from support.distance import mean_colour, noise, write_folder


@pytest.fixture(autouse=True)
def colours(monkeypatch):
    """A network that needs no weights stands for lite0."""
    monkeypatch.setattr(extractors, "load_extractor", lambda name, weights, device: mean_colour())


@pytest.fixture
def folders(tmp_path):
    samples = write_folder(tmp_path / "samples", noise(12))
    return str(samples), str(write_folder(tmp_path / "reference", noise(10, seed=1)))


def evaluate(*arguments):
    return main(["evaluate", "distances", *map(str, arguments), "--extractor", "lite0"])


def test_the_table_says_what_made_each_number(tmp_path, folders, capsys):
    samples, reference = folders
    more = ["--metrics", "fid,pr", "--json", tmp_path / "scores.json"]
    assert evaluate(samples, "--reference", reference, *more) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("samples: 12 images of 6 x 5")
    assert "extractor" in lines[1]
    assert [line.split()[0] for line in lines[3:]] == ["FD-colour", "precision", "recall"]
    assert all(f"{reference} (10)" in line for line in lines[3:])
    values = json.loads((tmp_path / "scores.json").read_text())
    assert values["samples"]["count"] == 12
    assert values["reference"]["extractor"] == "colour"
    assert values["scores"][0]["name"] == "FD-colour"


def test_statistics_that_were_saved_are_a_reference(tmp_path, folders, capsys):
    samples, reference = folders
    saved = tmp_path / "statistics.npz"
    assert evaluate(samples, "--reference", reference, "--save-statistics", saved) == 0
    capsys.readouterr()
    assert evaluate(samples, "--reference", saved) == 0
    value = capsys.readouterr().out.splitlines()[-1].split()[1]
    assert float(value) == pytest.approx(0, abs=1e-9)


def test_features_in_a_folder_are_used_again(tmp_path, folders, capsys):
    samples, reference = folders
    more = ["--reference", reference, "--features", tmp_path / "features", "--metrics", "fid,dc"]
    assert evaluate(samples, *more) == 0
    first = capsys.readouterr().out
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) == 2
    assert evaluate(samples, *more) == 0
    assert capsys.readouterr().out == first


def test_few_samples_are_warned_of_in_one_line(tmp_path, folders, capsys):
    _, reference = folders
    few = write_folder(tmp_path / "few", noise(3))
    assert evaluate(few, "--reference", reference) == 0
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("harope: warning: 3 samples are no more than the 3 features")


def test_damaged_files_are_named_and_counted(tmp_path, folders, capsys):
    samples, reference = folders
    (tmp_path / "samples" / "000003.png").write_text("hello")
    assert evaluate(samples, "--reference", reference) == 2
    assert "000003.png cannot be read" in capsys.readouterr().err
    assert evaluate(samples, "--reference", reference, "--max-unreadable", "0.1") == 0
    printed = capsys.readouterr()
    assert "1 damaged files of" in printed.err
    assert "11 images" in printed.out


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--metrics", "fid,nope"], "metrics ['nope'] are unknown"),
        (["--metrics", "is"], "is needs logits"),
        (["--metrics", "kid"], "subset_size 1000"),
        (["--metrics", "kid", "--subset-size", "10", "--batch-size", "0"], "batch_size 0"),
    ],
)
def test_bad_options_are_one_line(annotations_unchecked, folders, capsys, more, what):
    samples, reference = folders
    assert evaluate(samples, "--reference", reference, *more) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert what in errors[0]


def test_a_bad_reference_fails_before_the_samples_are_opened(tmp_path, capsys):
    np.savez(tmp_path / "r.npz", other=np.zeros(3))
    assert evaluate("nowhere", "--reference", tmp_path / "r.npz") == 2
    assert "r.npz has no array arr_0: it has other" in capsys.readouterr().err


def test_samples_without_a_reference_are_refused(folders, capsys):
    assert evaluate(folders[0]) == 2
    assert "--reference" in capsys.readouterr().err


def test_a_run_is_no_folder_of_samples(tmp_path, folders, capsys):
    _, reference = folders
    write_folder(tmp_path / "run" / "samples", noise(3))
    (tmp_path / "run/checkpoints/step-00000003").mkdir(parents=True)
    assert evaluate(tmp_path / "run", "--reference", reference) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run is a run, not a folder of samples; sample it with `harope sample" in line


def test_samples_that_are_not_all_drawn_are_not_measured(tmp_path, folders, capsys):
    samples, reference = folders
    manifest = tmp_path / "samples" / "samples.json"
    manifest.write_text(json.dumps({"count": 13}))
    assert evaluate(samples, "--reference", reference) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is missing 1 of 13 images" in line
    manifest.write_text(json.dumps({"count": 12}))
    assert evaluate(samples, "--reference", reference) == 0


def test_the_precision_of_adms_evaluator_is_noted(tmp_path, folders, capsys):
    samples, reference = folders
    scores = tmp_path / "scores.json"
    for metrics, count in (("fid", 0), ("fid,pr", 1)):
        assert (
            evaluate(samples, "--reference", reference, "--metrics", metrics, "--json", scores) == 0
        )
        notes = json.loads(scores.read_text())["notes"]
        assert [("float16" in note and "0.003" in note) for note in notes] == [True] * count
    assert capsys.readouterr().err == ""


def test_cached_features_of_changed_images_are_refused(tmp_path, folders, capsys):
    samples, reference = folders
    more = ["--reference", reference, "--features", tmp_path / "features"]
    assert evaluate(samples, *more) == 0
    path = tmp_path / "samples/000003.png"
    path.write_bytes((tmp_path / "samples/000004.png").read_bytes())
    capsys.readouterr()
    assert evaluate(samples, *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "features/samples contains features of other images or another extractor: digest 'files:"
        in line
    )


@pytest.mark.parametrize("value", ["nan", "-0.1", "1", "inf"])
def test_fractions_of_unreadable_files_lie_in_0_1(folders, capsys, value):
    samples, reference = folders
    assert evaluate(samples, "--reference", reference, "--max-unreadable", value) == 2
    assert "must lie in [0, 1)" in capsys.readouterr().err
