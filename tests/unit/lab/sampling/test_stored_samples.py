"""Folders that several processes fill with the samples of one generator."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from harope._utils.shards import Workers
from harope.lab.data.image_io import save_png
from harope.lab.sampling.runs import describe_decoder
from harope.lab.sampling.stored_samples import (
    StoredSamples,
    check_seeds,
    is_complete_png,
    list_numbered_images,
)


def fill(out, color, *, count=4, overwrite=False, workers=None, generate=None):
    """Fill a folder with images of one colour, and return the indices that were generated."""
    workers = workers or Workers()
    generated = []

    def draw(indices):
        generated.extend(indices)
        return torch.full((len(indices), 2, 2, 3), color, dtype=torch.uint8)

    stored = StoredSamples(
        out,
        {"color": color},
        out / "about.json",
        overwrite=overwrite,
        list_files=lambda _: list_numbered_images(out),
        workers=workers,
    )
    indices = range(workers.rank, count, workers.world_size)
    paths = {index: out / f"{index:06d}.png" for index in indices}
    missing = [index for index in indices if not stored.has(paths[index])]
    stored.fill(
        missing,
        generate or draw,
        lambda index, image: save_png(image, paths[index]),
        batch_size=2,
        quiet=True,
    )
    return generated


@pytest.mark.parametrize("count", [1, 4])
def test_two_processes_replace_samples_once_both_have_read_the_old_ones(tmp_path, count):
    fill(tmp_path, 1, count=6)
    barrier = threading.Barrier(2)
    workers = [Workers(rank=rank, world_size=2, wait=lambda: barrier.wait(60)) for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        generated = pool.map(
            lambda worker: fill(tmp_path, 2, count=count, overwrite=True, workers=worker), workers
        )
        assert sorted(index for part in generated for index in part) == list(range(count))
    assert json.loads((tmp_path / "about.json").read_text()) == {"color": 2}
    assert len(list_numbered_images(tmp_path)) == count
    assert fill(tmp_path, 2, count=count) == []


def test_samples_of_the_same_generator_are_not_overwritten(tmp_path):
    fill(tmp_path, 1)
    assert fill(tmp_path, 1, overwrite=True) == []
    (tmp_path / "000002.png").unlink()
    assert fill(tmp_path, 1, overwrite=True) == [2]


def test_other_files_survive_overwriting(tmp_path):
    fill(tmp_path, 1)
    (tmp_path / "notes.txt").write_text("mine")
    fill(tmp_path, 2, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_generator_that_fails_writes_nothing(tmp_path):
    def fail(indices):
        raise ValueError("no samples")

    out = tmp_path / "drawn"
    with pytest.raises(ValueError, match="no samples"):
        fill(out, 1, generate=fail)
    assert not out.exists()
    fill(out, 1)
    with pytest.raises(ValueError, match="no samples"):
        fill(out, 2, overwrite=True, generate=fail)
    assert fill(out, 1) == []


def test_a_complete_png_is_told_from_other_files(tmp_path):
    path = tmp_path / "a.png"
    assert not is_complete_png(path)
    save_png(torch.zeros(5, 4, 3, dtype=torch.uint8), path)
    assert is_complete_png(path)
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert not is_complete_png(path)


@pytest.mark.parametrize(("first_seed", "count"), [(-1, 1), (2**63, 1), (2**63 - 2, 3)])
def test_seeds_have_at_most_63_bits(first_seed, count):
    check_seeds(2**63 - 3, 3)
    with pytest.raises(ValueError, match=rf"first_seed {first_seed} must lie in 0 \.\. "):
        check_seeds(first_seed, count)


@pytest.mark.slow
def test_decoders_are_described_by_their_weights_and_scale():
    from diffusers import AutoencoderKL

    def vae(seed, **changes):
        torch.manual_seed(seed)
        sizes = {"block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 4}
        return AutoencoderKL(**sizes, **changes)

    assert describe_decoder(None) is None
    assert describe_decoder(vae(0)) == describe_decoder(vae(0))
    assert describe_decoder(vae(0)) != describe_decoder(vae(1))
    assert describe_decoder(vae(0)) != describe_decoder(vae(0, scaling_factor=0.5))
