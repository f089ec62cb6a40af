"""`harope evaluate distances` with the network that a package ships.

Several processes are real ones; all else calls the command in this one, which has it imported.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from harope.cli.main import main
from support.distance import noise, write_folder

COMMAND = ("evaluate", "distances")
LITE0 = ("--extractor", "lite0")


@pytest.fixture
def folders(tmp_path):
    write_folder(tmp_path / "samples", noise(13))
    write_folder(tmp_path / "reference", noise(10, seed=1))
    return tmp_path


@pytest.fixture
def harope(folders, monkeypatch, capsys):
    """The command, in the folder of the pictures; it must end with `code`."""
    monkeypatch.chdir(folders)

    def run(*arguments, code=0):
        returned = main([*map(str, arguments)])
        out, error = capsys.readouterr()
        assert returned == code, error
        return subprocess.CompletedProcess(arguments, returned, out, error)

    return run


def refuses(harope, samples: str, reference: str, *more: str, says: tuple[str, ...]) -> None:
    done = harope(*COMMAND, samples, "--reference", reference, *LITE0, *more, code=2)
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("harope: error: ")
    for words in says:
        assert words in lines[0], lines[0]
    assert done.stdout == ""


def test_images_of_other_sizes(harope, folders):
    write_folder(folders / "larger", noise(10, 8, 8))
    refuses(harope, "samples", "larger", says=("larger", "8 x 8", "samples of 6 x 5"))
    write_folder(folders / "samples", noise(1, 8, 8), first=13)
    refuses(harope, "samples", "reference", says=("000013.png is 8 x 8", "000000.png is 6 x 5"))


def test_too_few_images(harope, folders):
    write_folder(folders / "one", noise(1))
    refuses(harope, "one", "reference", says=("one holds 1 image: give at least 2",))
    refuses(harope, "samples", "one", says=("one holds 1 image: give at least 2",))
    refuses(
        harope, "samples", "reference", "--metrics", "kid",
        says=("subset_size 1000", "13 samples and 10 reference images"),
    )  # fmt: skip


def test_a_reference_of_another_resolution_or_extractor(harope, folders):
    made = {
        "extractor": "lite0", "weights": "w", "resize": "none", "image_size": [64, 64],
        "source": "elsewhere", "digest": "d",
    }  # fmt: skip
    arrays = {"mu": np.zeros(1280), "sigma": np.eye(1280), "count": np.array(5)}
    other = made | {"extractor": "dinov2"}
    np.savez(folders / "other.npz", **arrays, manifest=np.array(json.dumps(other)))
    refuses(
        harope, "samples", "other.npz",
        says=("other.npz was computed with extractor 'dinov2'", "the samples with 'lite0'"),
    )  # fmt: skip
    harope(*COMMAND, "samples", "--reference", "reference", *LITE0, "--save-statistics", "own.npz")
    write_folder(folders / "larger", noise(3, 8, 8))
    refuses(harope, "larger", "own.npz", says=("own.npz has images of 6 x 5", "larger of 8 x 8"))


def test_damaged_files_are_named_and_counted_up_to_a_share(harope, folders):
    whole = (folders / "samples/000003.png").read_bytes()
    # The header is whole: it is found while images are measured.
    (folders / "samples/000003.png").write_bytes(whole[: len(whole) // 2])
    refuses(harope, "samples", "reference", says=("000003.png", "1 of 13 files", "max_unreadable"))
    (folders / "samples/000007.png").write_text("no picture")
    refuses(
        harope, "samples", "reference", "--max-unreadable", "0.1",
        says=("000003.png", "2 of 13 files are damaged", "0.1"),
    )  # fmt: skip
    done = harope(
        *COMMAND, "samples", "--reference", "reference", *LITE0, "--max-unreadable", "0.2"
    )
    assert "2 damaged files of samples were left out: 000007.png, 000003.png" in done.stderr
    assert done.stdout.startswith("samples: 11 images")


def test_files_that_hold_no_images_or_broken_numbers(harope, folders):
    np.savez(folders / "float.npz", arr_0=noise(4) / 255.0)
    refuses(harope, "float.npz", "reference", says=("float.npz holds float64", "uint8"))
    broken = {"mu": np.full(1280, np.nan), "sigma": np.eye(1280)}
    np.savez(folders / "nan.npz", **broken)
    refuses(harope, "samples", "nan.npz", says=("nan.npz", "NaN"))


def test_two_processes_give_the_numbers_of_one(harope, folders):
    # A network rounds otherwise in batches of other sizes.
    arguments = (*COMMAND, "samples", "--reference", "reference", *LITE0, "--batch-size", "1")
    arguments += ("--metrics", "fid,is,pr,dc", "--json", "scores.json", "--features")
    alone = harope(*arguments, "one", "--save-statistics", "one.npz")
    scores = json.loads((folders / "scores.json").read_text())["scores"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", "2", "-m", "harope.cli.main"]
    together = subprocess.run(
        [*launch, *arguments, "two", "--save-statistics", "two.npz"],
        cwd=folders,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
    )
    assert together.returncode == 0, together.stderr
    # By the first process alone.
    assert together.stdout.count("FD-Lite0") == 1
    assert together.stdout.splitlines()[0] == alone.stdout.splitlines()[0]
    assert len(list((folders / "two").rglob("*.safetensors"))) == 4
    again = json.loads((folders / "scores.json").read_text())["scores"]
    for one, two in zip(scores, again, strict=True):
        assert (one["name"], one["how"]) == (two["name"], two["how"])
        assert one["value"] == pytest.approx(two["value"], rel=1e-9)
    with np.load(folders / "one.npz") as one, np.load(folders / "two.npz") as two:
        assert one["count"] == two["count"] == 13
        for name in ("mu", "sigma"):
            np.testing.assert_allclose(one[name], two[name], rtol=1e-9, atol=1e-12)
