import json

import numpy as np
import pytest
from PIL import Image

from harope.cli.encode import CAPTIONED
from harope.cli.main import main
from harope.lab.data.latents.captioned import CaptionedLatentsDataset
from harope.lab.data.registry import create_captioned_config


@pytest.fixture
def vae(tmp_path):
    """A random AutoencoderKL with a factor of 2."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
    )
    vae.save_pretrained(tmp_path / "vae")
    return str(tmp_path / "vae")


def encode(tmp_path, vae, *options):
    out = tmp_path / "latents"
    words = ["encode", str(tmp_path / "images"), str(out), "--vae", vae, "--image-size", "8"]
    return main([*words, "--quiet", *options]), out


def test_captioned_images_become_latents_with_captions(tmp_path, vae, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 8)).save(tmp_path / "images/a.jpg")
    annotations = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "caption": text} for text in ("black", "dark")],
    }
    (tmp_path / "c.json").write_text(json.dumps(annotations))
    field = f"annotations={tmp_path / 'c.json'}"
    code, out = encode(tmp_path, vae, "--kind", "coco", "--field", field)
    assert code == 0
    source = CaptionedLatentsDataset(out)
    assert source.captions(0) == ["black", "dark"]
    assert source.shape == (4, 4, 4)
    assert f"--data.kind captioned-latents --data.root {out}" in capsys.readouterr().out


def test_the_kinds_are_those_of_the_registry():
    for kind in CAPTIONED:
        needed = {"root": "a", "image_size": 8} | ({"annotations": "b"} if kind == "coco" else {})
        assert create_captioned_config(kind, **needed).kind == kind


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "coco", "--form", "npy"], "--form npy cannot store captions; use shards"),
        (["--kind", "coco"], "coco requires 'annotations': pass annotations="),
        (["--kind", "hub", "--field", "spilt=test"], "hub has no field 'spilt': it has kind, root"),
        (["--field", "a=b"], "--field a=b only applies to captioned datasets; pass their --kind"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, options, message, capsys):
    code, _ = encode(tmp_path, "no-vae", *options)
    assert code == 2
    assert capsys.readouterr().err.startswith(f"harope: error: {message}")


def test_other_images_are_refused_and_the_latents_stay(tmp_path, vae, capsys):
    """Bright images encoded into the folder of dark ones, as many and of the same size."""
    for value in (20, 230):
        for name in ("c0/0.png", "c0/1.png", "c1/0.png"):
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)
        code, out = encode(tmp_path, vae)
        assert code == (0 if value == 20 else 2)
        shard = (out / "shard-00000.safetensors").read_bytes()
    assert "was begun with images" in capsys.readouterr().err
    assert (out / "shard-00000.safetensors").read_bytes() == shard


def test_more_left_out_images_than_allowed_are_an_error(tmp_path, vae, capsys):
    (tmp_path / "images/c0").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "images/c0/a.png")
    (tmp_path / "images/c0/a\x1b[2J.gif").touch()
    assert encode(tmp_path, vae)[0] == 2
    error = capsys.readouterr().err
    assert "1 of 2 are left out" in error
    assert r"a\x1b[2J.gif" in error
    assert encode(tmp_path, vae, "--max-left-out", "0.5")[0] == 0
    lines = capsys.readouterr().err.splitlines()
    (warning,) = (line for line in lines if line.startswith("harope: warning: "))
    assert "1 of 2 are left out" in warning
