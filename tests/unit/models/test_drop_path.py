import torch
from timm.layers import DropPath as TimmDropPath
from torch import nn

from harope.models.drop_path import DropPath, replace_drop_paths, sample_drop_path_masks


def drawn(paths, batch_size, share):
    sample_drop_path_masks(paths, batch_size, share, torch.Generator().manual_seed(1))
    return [path.keep_mask for path in paths]


def test_a_micro_batch_gets_its_part_of_the_masks_of_the_batch():
    paths = [DropPath(0.5), DropPath(0.3)]
    whole = drawn(paths, 12, slice(0, 12))
    for first in (0, 4, 8):
        parts = drawn(paths, 12, slice(first, first + 4))
        assert all(torch.equal(p, w[first : first + 4]) for p, w in zip(parts, whole, strict=True))


def test_the_rate_is_the_fraction_dropped_and_the_mean_is_preserved():
    path = DropPath(0.25)
    drawn([path], 20_000, slice(0, 20_000))
    out = path(torch.ones(20_000, 1, 2))
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    # Five standard deviations of the share are 0.016.
    assert abs((out == 0).float().mean() - 0.25) < 0.016


def test_nothing_is_dropped_in_eval_mode():
    x = torch.randn(3, 4, 5)
    assert torch.equal(DropPath(0.9).eval()(x), x)


def test_modules_of_timm_are_replaced_with_their_rates():
    model = nn.Sequential(nn.Sequential(nn.Identity(), TimmDropPath(0.1)), TimmDropPath(0.2))
    replaced = replace_drop_paths(model)
    assert [path.rate for path in replaced] == [0.1, 0.2]
    assert model[0][1] is replaced[0]
    assert model[1] is replaced[1]
