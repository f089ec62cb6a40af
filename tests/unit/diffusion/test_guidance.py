import pytest
import torch

from harope.diffusion import guided

LABELS, NULL = torch.tensor([2, 5]), torch.tensor([10, 10])
X, T = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 9.0])


def model(x, t, y):
    """Eight channels, different for every sample, time, label and channel."""
    wide = torch.cat([x, x.flip(2)], dim=1) + torch.arange(8.0).view(1, -1, 1, 1)
    return wide * (1 + y.float()).view(-1, 1, 1, 1) + t.view(-1, 1, 1, 1)


CONDITIONAL, UNCONDITIONAL = model(X, T, LABELS), model(X, T, NULL)
MIXED = UNCONDITIONAL + 1.5 * (CONDITIONAL - UNCONDITIONAL)


def test_all_channels_of_the_prediction_are_guided_and_the_variance_is_conditional():
    output = guided(model, LABELS, NULL, 1.5)(X, T)
    torch.testing.assert_close(output[:, :4], MIXED[:, :4])
    assert torch.equal(output[:, 4:], CONDITIONAL[:, 4:])


def test_three_of_four_channels_can_be_guided():
    output = guided(model, LABELS, NULL, 1.5, channels=3)(X, T)
    torch.testing.assert_close(output[:, :3], MIXED[:, :3])
    assert torch.equal(output[:, 3:], CONDITIONAL[:, 3:])


def test_prediction_channels_may_be_given():
    output = guided(model, LABELS, NULL, 1.5, prediction_channels=8)(X, T)
    torch.testing.assert_close(output, MIXED)


def test_scale_zero_is_unconditional():
    output = guided(model, LABELS, NULL, 0.0)(X, T)
    assert torch.equal(output[:, :4], UNCONDITIONAL[:, :4])


@pytest.mark.parametrize(("scale", "batch"), [(1.0, 2), (1.5, 4)])
def test_only_guidance_doubles_the_batch(scale, batch):
    sizes = []

    def counting(x, t, y):
        sizes.append((len(x), len(t), len(y)))
        return model(x, t, y)

    guided(counting, LABELS, NULL, scale)(X, T)
    assert sizes == [(batch, batch, batch)]


def test_embeddings_serve_as_labels():
    captions, empty = torch.ones(2, 7, 5), torch.zeros(2, 7, 5)
    denoiser = guided(
        lambda x, t, y: x + y.mean(dim=(1, 2)).view(-1, 1, 1, 1), captions, empty, 3.0
    )
    torch.testing.assert_close(denoiser(X, T), X + 3)


@pytest.mark.parametrize("channels", [0, 5])
def test_channels_beyond_the_prediction_are_refused(channels):
    with pytest.raises(ValueError, match=f"channels {channels} is not within the 4"):
        guided(model, LABELS, NULL, 1.5, channels=channels)(X, T)


def test_labels_and_null_labels_must_match():
    with pytest.raises(ValueError, match=r"labels \(2,\) and null_labels \(1,\)"):
        guided(model, LABELS, NULL[:1], 1.5)
