import pytest
import torch

from harope.rope import create_encoding, set_scaling
from harope.rope.frequencies import spectrum


def angles(fraction, kind="own", name="axial", num_axes=1, head_dim=16, **options):
    encoding = create_encoding(
        name,
        num_heads=1,
        head_dim=head_dim,
        num_axes=num_axes,
        rotary_fraction=fraction,
        **({} if kind == "own" else {"rotary_spectrum": kind}),
        **options,
    )
    return encoding.angles(torch.ones(1, num_axes))[0]


def test_the_own_spectrum_is_that_of_a_smaller_head():
    torch.testing.assert_close(angles(0.5), torch.cat([spectrum(8, 10000.0), torch.zeros(4)]))


def test_the_full_spectrum_keeps_its_highest_frequencies():
    expected = spectrum(16, 10000.0)
    expected[2:] = 0
    assert torch.equal(angles(0.25, "full"), expected)


def test_the_full_spectrum_of_several_axes_keeps_the_highest_of_each():
    expected = spectrum(8, 10000.0) * torch.tensor([1, 1, 0, 0])
    assert torch.equal(angles(0.5, "full", num_axes=2), expected.repeat(2))


def test_all_pairs_are_the_whole_encoding():
    whole = create_encoding("axial", num_heads=1, head_dim=16)
    assert torch.equal(angles(1.0, num_axes=2), whole.angles(torch.ones(1, 2))[0])


@pytest.mark.parametrize("kind", ["own", "full"])
def test_channels_that_are_not_rotated_keep_their_bits(kind):
    options = {} if kind == "own" else {"rotary_spectrum": kind}
    encoding = create_encoding("rope", num_heads=2, head_dim=16, rotary_fraction=0.5, **options)
    q, k = torch.randn(2, 1, 2, 6, 16)
    out = encoding(q, k, torch.rand(6, 2) * 9)
    for before, after in zip((q, k), out, strict=True):
        assert torch.equal(after[..., 8:], before[..., 8:])


def test_a_fraction_of_another_family_and_its_scaling():
    encoding = create_encoding(
        "harope", num_heads=2, head_dim=16, frequencies="mixed", rotary_fraction=0.5
    )
    assert encoding.frequencies.family.wave_vectors.shape == (2, 2, 4)
    assert not encoding.shares_table
    with pytest.raises(ValueError, match="Mixed has learned values"):
        set_scaling(encoding, "ntk", train_sizes=(4, 4), sizes=(8, 8))
    plain = encoding.angles(torch.ones(1, 2))
    set_scaling(encoding, "interpolate", train_sizes=(4, 4), sizes=(8, 8))
    torch.testing.assert_close(encoding.angles(2 * torch.ones(1, 2)), plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotary_fraction": 0.0}, "rotary_fraction 0.0 must be above 0"),
        ({"rotary_fraction": 1.5}, "rotary_fraction 1.5 must be above 0 and at most 1"),
        ({"rotary_spectrum": "full"}, "rotary_spectrum 'full' has no effect while all pairs"),
        ({"rotary_fraction": 0.5, "layout": "half"}, "rotates the first channels, but layout"),
        ({"rotary_fraction": 0.2}, "rotary_fraction 0.2 of head_dim 16 is 3 channels"),
    ],
)
def test_fractions_that_are_no_pairs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_encoding("axial", num_heads=1, head_dim=16, **options)
