"""LoRA beside an encoding: trained, resumed, and drawn by the pipeline it was made for."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from harope.cli.main import main
from harope.integrations import load_adapters
from harope.lab.data.image_io import save_grid
from harope.lab.recipes import get_recipe
from harope.lab.sampling.runs import load_class_generator
from harope.lab.training import train
from harope.lab.training.checkpoint import load_checkpoint

ADAPTERS = ["harope.safetensors", "pytorch_lora_weights.safetensors"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """All Linears of a tiny FLUX, at a rate that changes its pictures."""
    config = get_recipe("flux-lora-emoji").smoke(tmp_path_factory.mktemp("made"))
    optimizer = replace(config.optimizer, lr=0.02, decay=0.0)
    return replace(config, optimizer=optimizer, prompts=("a red star",))


def with_encoding(config, encoding):
    return replace(config, model=replace(config.model, encoding=encoding))


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(smoke, tmp_path):
    whole = train(smoke, tmp_path / "whole", quiet=True)
    train(replace(smoke, steps=2), tmp_path / "parts", quiet=True)
    parts = train(smoke, tmp_path / "parts", quiet=True)
    expected, found = load_checkpoint(whole)[0], load_checkpoint(parts)[0]
    for stem in ("model", "ema", "optimizer"):
        assert expected[stem].keys() == found[stem].keys()
        for name, value in expected[stem].items():
            assert torch.equal(value, found[stem][name]), name
    for name in ADAPTERS:
        files = [load_file(tmp_path / run / "adapters" / name) for run in ("whole", "parts")]
        torch.testing.assert_close(*files, rtol=0, atol=0)


@pytest.mark.parametrize("encoding", ["harope", "axial"])
def test_harope_sample_and_a_stock_pipeline_draw_what_the_training_drew(
    smoke, tmp_path, monkeypatch, encoding
):
    train(with_encoding(smoke, encoding), tmp_path / "run", quiet=True)
    adapters = tmp_path / "run/adapters"
    assert sorted(path.name for path in adapters.iterdir()) == ADAPTERS
    with safe_open(adapters / ADAPTERS[0], framework="pt") as file:
        assert (len(list(file.keys())) > 0) == (encoding == "harope")
    shown = Image.open(tmp_path / "run/samples/step-00000004.png").tobytes()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    (tmp_path / "p.txt").write_text("a red star\n" * 2)
    flux, grid = smoke.model.pretrained, str(tmp_path / "grid.png")
    command = ["sample", flux, "--lora", str(adapters), "--encoding", str(adapters)]
    command += ["--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "drawn")]
    command += ["--height", "16", "--width", "16", "--num-steps", "2", "--text-length", "16"]
    assert main([*command, "--grid", grid, "--quiet"]) == 0
    assert close(Image.open(grid).tobytes(), shown)
    stock = draw(load_adapters(open_flux(flux), adapters))
    save_grid(stock, tmp_path / "stock.png")
    assert close(Image.open(tmp_path / "stock.png").tobytes(), shown)
    assert (draw(open_flux(flux)) - stock).abs().max() > 0.1
    with pytest.raises(ValueError, match=r"images by `harope sample .* --lora RUN/adapters"):
        load_class_generator(tmp_path / "run")


def close(one, other):
    """Whether pictures differ by at most one of 255 steps: sums may be taken in another order."""
    pair = [torch.frombuffer(bytearray(data), dtype=torch.uint8).int() for data in (one, other)]
    return (pair[0] - pair[1]).abs().max() <= 1


def open_flux(folder):
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline):
    images = pipeline(
        ["a red star"] * 2,
        generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
        height=16,
        width=16,
        num_inference_steps=2,
        max_sequence_length=16,
        output_type="pt",
    ).images
    return images * 2 - 1
