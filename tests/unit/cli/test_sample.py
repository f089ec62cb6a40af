"""`harope sample` for classes, in this process: what a folder of samples was made from."""

import json
import shutil

import pytest
import torch
from PIL import Image

import harope
from harope.cli.main import main

SIZE = {"depth": 1, "width": 32, "num_heads": 2, "patch_size": 2, "in_channels": 3}
MORE = {"num_classes": 4, "input_size": (8, 8), "learned_variance": False}
COMMAND = ["--count", "3", "--sampler", "ddim", "--num-steps", "2", "--quiet"]
SMALL_RUN = (
    "--steps 4 --batch_size 4 --checkpoint_every 2 --sample_every 100 --optimizer.warmup_steps 0 "
    "--optimizer.lr 0.01 --model.depth 1 --model.width 32 --model.num_heads 2 --num_samples 2 "
    "--sampling.num_steps 2 --quiet"
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture
def models(tmp_path):
    """Two models of one architecture, in the folders a and b."""
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        model = harope.DiT(harope.DiTConfig(**SIZE, **MORE))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(tmp_path / name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "digits-dit", "--out", str(run), *SMALL_RUN.split()]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


def sample(model, out, *more):
    return main(["sample", str(model), "--out", str(out), *COMMAND, *map(str, more)])


def images(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def one_line(capsys, *words):
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("harope: error: ")
    for word in words:
        assert word in line, line


@pytest.mark.usefixtures("models")
def test_another_checkpoint_is_refused_or_replaces_the_samples(tmp_path, capsys):
    assert sample("a", "drawn") == 0
    assert sample("b", "fresh") == 0
    before = images(tmp_path / "drawn")
    assert sample("a", "drawn") == 0
    capsys.readouterr()
    assert sample("b", "drawn") == 2
    one_line(capsys, "drawn holds samples made from something else (weights '", "--overwrite")
    assert images(tmp_path / "drawn") == before
    assert sample("b", "drawn", "--overwrite") == 0
    assert images(tmp_path / "drawn") == images(tmp_path / "fresh") != before
    manifests = [
        json.loads((tmp_path / name / "samples.json").read_text()) for name in ("drawn", "fresh")
    ]
    assert manifests[0] == manifests[1]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("option", "difference"),
    [
        (("--num-steps", 3), "sampling.num_steps 2, not 3"),
        (("--sampler", "dpm"), "sampling.sampler 'ddim', not 'dpm'"),
        (("--guidance", 2), "sampling.guidance 1.5, not 2.0"),
        (("--guidance-channels", 1), "sampling.guidance_channels None, not 1"),
        (("--seed", 7), "first_seed 0, not 7"),
        (("--labels", 3), "labels.0 0, not 3"),
        (("--height", 12), "shape.1 8, not 12"),
    ],
)
def test_other_settings_are_refused_or_replace_the_samples(tmp_path, capsys, option, difference):
    assert sample("a", "drawn") == 0
    before = images(tmp_path / "drawn")
    capsys.readouterr()
    assert sample("a", "drawn", *option) == 2
    one_line(capsys, f"({difference})", "--overwrite")
    assert images(tmp_path / "drawn") == before
    assert sample("a", "drawn", *option, "--overwrite") == 0
    assert set(images(tmp_path / "drawn")) == set(before)
    assert images(tmp_path / "drawn") != before


@pytest.mark.slow
def test_checkpoints_weights_and_scalings_of_a_run_are_told_apart(trained, tmp_path, capsys):
    two, four = sorted((trained / "checkpoints").iterdir())
    run = ("--guidance", 1, "--sampler", "ancestral")
    assert sample(two, "drawn", *run) == 0
    assert sample(four, "fresh", *run) == 0
    assert images(tmp_path / "drawn") != images(tmp_path / "fresh")
    for source, more in ((four, ()), (trained, ()), (two, ("--weights", "model"))):
        capsys.readouterr()
        assert sample(source, "drawn", *run, *more) == 2
        one_line(capsys, "(weights '")
    larger = (*run, "--height", 16, "--width", 16)
    assert sample(four, "large", *larger) == 0
    capsys.readouterr()
    assert sample(four, "large", *larger, "--scaling", "ntk") == 2
    one_line(capsys, "(scaling 'extrapolate', not 'ntk')")
    assert sample(four, "large", *larger, "--scaling", "ntk", "--overwrite") == 0
    assert sample(four, "ntk", *larger, "--scaling", "ntk") == 0
    assert images(tmp_path / "large") == images(tmp_path / "ntk")
    # The last checkpoint is that of the run, and a scaling has no effect at the trained size.
    assert sample(trained, "fresh", *run, "--scaling", "ntk") == 0


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_files_of_somebody_else_are_neither_samples_nor_overwritten(tmp_path, capsys, more):
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (999, 3), "red").save(tmp_path / "mine/000000.png")
    before = images(tmp_path / "mine")
    assert sample("a", "mine", *more) == 2
    one_line(capsys, "mine holds files but no samples.json")
    assert images(tmp_path / "mine") == before
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["000000.png"]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-30], lambda data: b"", lambda data: data[:60] + b"x" + data[61:]]
)
def test_damaged_samples_are_generated_again(tmp_path, damage):
    assert sample("a", "drawn") == 0
    before = images(tmp_path / "drawn")
    (tmp_path / "drawn/000001.png").write_bytes(damage(before["000001.png"]))
    assert sample("a", "drawn") == 0
    assert images(tmp_path / "drawn") == before


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--sampler", "euler"), "sampler 'euler' does not go with GaussianDiffusion"),
        (("--num-steps", 0), "num_steps must be at least 1, got 0"),
        (("--num-steps", 5000), "5000"),
        (("--guidance", "nan"), "guidance must be a number of at least 0, got nan"),
        (("--guidance", "inf"), "guidance must be a number of at least 0, got inf"),
        (("--guidance", -1), "guidance must be a number of at least 0, got -1.0"),
        (("--guidance-channels", 0), "guidance_channels must be at least 1, got 0"),
        (("--guidance-channels", 4), "channels 4 is not within the 3 channels"),
        (("--height", 0), "height must be at least 1, got 0"),
        (("--width", -2), "width must be at least 1, got -2"),
        (("--height", 9), "height 9 and width 8 must be multiples of the patch size 2"),
        (("--count", 0), "count and batch_size must be at least 1, got 0 and 64"),
        (("--batch-size", 0), "count and batch_size must be at least 1, got 3 and 0"),
        (("--seed", -1), "first_seed -1 must lie in 0 .. "),
        (("--first-seed", 2**63 - 2), "must lie in 0 .. 9223372036854775805"),
        (("--labels", 4), "label 4 is out of range"),
    ],
)
def test_a_refused_command_leaves_nothing_that_refuses_the_right_one(
    tmp_path, capsys, option, words
):
    assert sample("a", "drawn", *option) == 2
    one_line(capsys, words)
    assert not (tmp_path / "drawn").exists()
    # Nor does it touch samples that it was to overwrite.
    assert sample("a", "drawn") == 0
    before = images(tmp_path / "drawn")
    assert sample("a", "drawn", *option, "--overwrite") == 2
    assert images(tmp_path / "drawn") == before
    assert sample("a", "drawn") == 0


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("text", ['{"model": {"dep', "[]", "null", '{"count": "many"}'])
def test_a_torn_description_is_refused_with_its_name(tmp_path, capsys, text):
    assert sample("a", "drawn") == 0
    (tmp_path / "drawn/samples.json").write_text(text)
    capsys.readouterr()
    assert sample("a", "drawn") == 2
    assert "drawn" in capsys.readouterr().err
    assert main(["evaluate", "scenes", "drawn"]) == 2
    one_line(capsys, "drawn/samples.json")


@pytest.mark.slow
def test_averaged_weights_that_are_missing_are_not_replaced_by_others(run, tmp_path, capsys):
    (run / "checkpoints/step-00000004/ema.safetensors").unlink()
    for source in (run, run / "checkpoints/step-00000004"):
        assert sample(source, "drawn", "--sampler", "ancestral") == 2
        one_line(capsys, "step-00000004", "ema.safetensors")
        assert not (tmp_path / "drawn").exists()
    assert sample(run, "drawn", "--sampler", "ancestral", "--weights", "model") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "config.json is missing"),
        ('{"recipe": "digits-d', "is not JSON"),
        ("null", "dictionary"),
        ("[]", "dictionary"),
        ("{}", "config.json"),
        ('{"task": {}}', "config.json"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_run_without_its_configuration_is_refused(run, tmp_path, capsys, text, words):
    (run / "config.json").unlink()
    if text is not None:
        (run / "config.json").write_text(text)
    for source in (run, run / "checkpoints/step-00000004"):
        assert sample(source, "drawn", "--sampler", "ancestral") == 2
        one_line(capsys, "run/config.json", words)
    assert not (tmp_path / "drawn").exists()


@pytest.mark.slow
def test_a_checkpoint_outside_of_its_run_needs_the_configuration(run, tmp_path, capsys):
    shutil.copytree(run / "checkpoints/step-00000004", tmp_path / "alone")
    # Checkpoints of older versions do not contain it.
    (tmp_path / "alone/train.json").unlink()
    assert sample("alone", "drawn", "--sampler", "ancestral") == 2
    one_line(capsys, "alone is a checkpoint without its run", "alone/train.json")
    shutil.copy(run / "config.json", tmp_path / "alone/train.json")
    assert sample("alone", "drawn", "--sampler", "ancestral") == 0
    # The same model and configuration: the run completes the folder.
    assert sample(run, "drawn", "--sampler", "ancestral") == 0


def test_weights_of_nan_are_no_black_images(models, tmp_path, capsys):
    model = harope.DiT.from_pretrained(tmp_path / "a")
    torch.nn.init.constant_(next(iter(model.parameters())), torch.nan)
    model.save_pretrained(tmp_path / "a")
    assert sample("a", "drawn") == 2
    one_line(capsys, "has values that are NaN or infinite")
    assert not (tmp_path / "drawn").exists()
