"""One's own images from the command line: what a newcomer types, right and wrong."""

import json

import pytest

from harope.cli.main import main
from harope.lab.data.synthetic import make_captioned_folder, make_image_folder

SMALL = (
    "--data.image_size", 16, "--steps", 2, "--batch_size", 4, "--num_samples", 4,
    "--sampling.num_steps", 2, "--quiet", "--out", "run",
)  # fmt: skip
HALF = ("--data.held_out_share", 0.5)


def test_a_released_model_is_fine_tuned_on_a_folder_of_photos(harope, tmp_path):
    make_image_folder(tmp_path / "photos", num=15, image_size=24)
    command = ("train", "folder-dit", "--init", "scenes-dit-axial", *SMALL)
    done = harope(*command)
    assert done.stderr.splitlines() == [
        f"harope: init scenes-dit-axial: {text}"
        for text in (
            "y_embedder is not taken over, because model.num_classes or model.label_dropout "
            "differs",
            "the encoding is harope instead of axial and starts with its initial values",
        )
    ]
    checkpoint = tmp_path / "run/checkpoints/step-00000002"
    model, train = (json.loads((checkpoint / f"{n}.json").read_text()) for n in ("config", "train"))
    assert (model["num_classes"], model["width"], model["encoding"]) == (5, 128, "harope")
    assert (train["init"], train["model"]["depth"]) == ("scenes-dit-axial", 6)
    assert "nothing to do" in harope(*command).stderr
    harope("sample", "run", "--count", 2, "--out", "samples", "--quiet")
    assert (tmp_path / "samples/000001.png").is_file()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("folder-dit",), "folder photos does not exist: set root to a folder of images"),
        (("folder-vit", "--data.root", "empty"), "empty contains no images"),
        (
            ("folder-vit", "--data.root", "flat", *HALF),
            "data has one class, but a classifier",
        ),
        (("folder-vit", "--held_out.kind", "folder", "--held_out.root", "x"), "folder photos does"),
        (("folder-vit", "--held_out.root", "x"), "held_out.kind is missing"),
        (("captioned-dit", "--data.root", "flat"), "flat has 6 images and no captions: add "),
        (("folder-dit", "--data.root", "flat", "--init", "nothing"), "init 'nothing' does not exi"),
        (
            ("scenes-dit", "--init", "scenes-dit-axial", "--depth", 4),
            "model.depth is 4, but that of init scenes-dit-axial is 6: leave model.depth out",
        ),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_left(
    tmp_path, monkeypatch, capsys, fields, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make_captioned_folder(tmp_path / "flat", num=6, image_size=16)
    for path in (tmp_path / "flat").glob("*.txt"):
        path.unlink()
    assert main(["train", *map(str, fields), "--out", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "flat"}
