import pytest
import torch
from torch import nn

from harope.rope import create_encoding, text_images_positions
from harope.rope.frequencies import spectrum
from harope.rope.sectioned import HeadAxes, MMRoPE, MRoPE, MRoPEInterleaved, Video

CPU = torch.device("cpu")
SECTIONED = ["video", "mrope", "mrope-interleaved", "mm-rope"]


def axes_of(frequencies):
    """The letter of the axis of each pair; "-" if it is not rotated."""
    used = frequencies.wave_vectors(CPU)[:, 0] != 0
    names = "thw"[-len(used) :]
    return "".join(names[int(column.long().argmax())] if column.any() else "-" for column in used.T)


def test_the_axis_of_every_pair():
    assert axes_of(Video(32, 3)) == "hwhwhwhwhwhwtttt"
    assert axes_of(Video(32, 2)) == "hwhwhwhwhwhw----"
    assert axes_of(MRoPE(32, 3)) == "tttthhhhhhwwwwww"
    assert axes_of(MRoPE(32, 2)) == "----hhhhhhwwwwww"
    assert axes_of(MMRoPE(32, 3)) == "tthwhwhwtthwhwhw"
    qwen3 = axes_of(MRoPEInterleaved(128, 3))
    assert qwen3 == "thw" * 20 + "tttt"
    assert axes_of(MRoPEInterleaved(128, 2)) == "-hw" * 20 + "----"


def test_sections_can_be_given():
    assert axes_of(MRoPE(16, 3, sections=(2, 2, 4))) == "tthhwwww"
    assert axes_of(MRoPEInterleaved(16, 3, sections=(4, 3, 1))) == "thwthtth"


@pytest.mark.parametrize("name", SECTIONED)
def test_text_has_the_angles_of_plain_rope(name):
    encoding = create_encoding(name, num_heads=1, head_dim=32, num_axes=3)
    positions = text_images_positions(7)
    plain = positions[:, :1] * spectrum(32, 10000.0)
    assert torch.equal(encoding.angles(positions), plain)
    first = create_encoding("mhrope", num_heads=1, head_dim=32, num_axes=1)
    assert torch.equal(first.angles(positions[:, :1]), plain)


def test_heads_are_shared_by_the_axes():
    assert HeadAxes(8, 3, num_heads=8).sections == (2, 3, 3)
    assert HeadAxes(8, 2, num_heads=4).sections == (2, 2)
    vectors = HeadAxes(8, 3, num_heads=8, sections=(1, 2, 3)).wave_vectors(CPU)
    used = (vectors != 0).all(-1).long()
    assert used.tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 1, 0, 0],
    ]


def test_a_shift_along_one_axis_changes_its_heads_alone():
    encoding = create_encoding("mhrope", num_heads=4, head_dim=8)
    q, k = torch.randn(2, 1, 4, 3, 8)
    here = encoding(q, k, torch.zeros(3, 2))[0]
    there = encoding(q, k, torch.tensor([0.0, 5.0]).expand(3, 2))[0]
    assert torch.equal(here[:, :2], there[:, :2])
    assert not torch.allclose(here[:, 2:], there[:, 2:])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mrope", {"sections": (1, 2)}, "must name the pairs of t, h and w"),
        ("mrope", {"sections": (1, 2, 2)}, "which sum to head_dim / 2 = 8"),
        ("mrope-interleaved", {"sections": (0, 4, 4)}, "cannot take turns over 8 pairs"),
        ("mrope", {"num_axes": 1}, "mrope frequencies need the axes"),
        ("mhrope", {"sections": (3, 2)}, "heads of 2 axes, at most 4 in total"),
        ("mhrope", {"sections": (3,)}, "heads of 2 axes"),
    ],
)
def test_sections_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_encoding(name, **{"num_heads": 4, "head_dim": 16} | options)


def test_no_family_has_parameters():
    for name in [*SECTIONED, "mhrope", "dinov3", "golden", "spiral", "simplex"]:
        encoding: nn.Module = create_encoding(name, num_heads=2, head_dim=16)
        assert not list(encoding.parameters())
        assert not encoding.state_dict()
        assert encoding.shares_table
