import pytest
import torch

from harope.diffusion import SampleNoise


def test_a_sample_depends_only_on_its_own_seed():
    together, alone = SampleNoise([3, 8, 5], (4, 2, 3)), SampleNoise([8], (4, 2, 3))
    for _ in range(3):
        assert torch.equal(together.next()[1], alone.next()[0])


def test_consecutive_batches_continue_one_stream():
    noise, generator = SampleNoise([7], (4, 5, 5)), torch.Generator().manual_seed(7)
    for _ in range(2):
        assert torch.equal(noise.next()[0], torch.randn(4, 5, 5, generator=generator))


def test_noise_is_standard_normal():
    values = SampleNoise(range(64), (4, 16, 16)).next()
    # Four standard errors among 65,536.
    assert values.mean().abs() < 4 / 256
    assert (values.std() - 1).abs() < 4 / 362


def test_dtype_rounds_the_same_noise():
    single, half = SampleNoise([1], (3, 4, 4)), SampleNoise([1], (3, 4, 4), dtype=torch.bfloat16)
    assert torch.equal(single.next().bfloat16(), half.next())


def test_noise_arrives_on_the_device():
    assert SampleNoise([1], (3, 4, 4), device="meta").next().device.type == "meta"


def test_no_seeds_is_an_error():
    with pytest.raises(ValueError, match="seeds is empty"):
        SampleNoise([], (3, 4, 4))
