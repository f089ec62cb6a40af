import pickle
from collections import Counter
from itertools import islice

import pytest
import torch

from harope.lab.data.captioned.base import (
    FiniteCaptionedDataset,
    StringTable,
    clean_captions,
    distinct_captions,
    pick_caption,
)
from harope.lab.data.dataset import items_in_order, loader


class Numbers(FiniteCaptionedDataset):
    """Item n is n, with the captions "n" and "n again"; item 3 may be damaged."""

    shape = (1, 1, 1)

    def __init__(self, length=5, seed=0, broken=False):
        super().__init__(length, seed)
        self.broken = broken

    def images(self, indices):
        if self.broken and 3 in indices:
            raise ValueError("file 3 is damaged")
        return torch.tensor(list(indices), dtype=torch.float32).view(-1, 1, 1, 1)

    def captions(self, index):
        return [str(index), f"{index} again"]


def test_every_epoch_visits_every_image_once_with_one_of_its_captions():
    images, captions = Numbers().samples(range(10))
    places = images.flatten().long().tolist()
    assert sorted(places[:5]) == sorted(places[5:]) == list(range(5))
    assert all(
        caption.split()[0] == str(place) for place, caption in zip(places, captions, strict=True)
    )


def test_captions_are_equally_likely_and_depend_only_on_the_number():
    _, captions = Numbers(seed=1).samples(range(1000))
    # Five standard deviations of 1000 fair coins are 79.
    assert abs(sum("again" in caption for caption in captions) - 500) < 79
    assert Numbers(seed=1).samples([700, 3])[1] == [captions[700], captions[3]]
    assert Numbers(seed=2).samples(range(1000))[1] != captions


def test_choices_of_three_are_equally_likely():
    counts = Counter(pick_caption("abc", 0, number) for number in range(3000))
    assert all(abs(counts[caption] - 1000) < 130 for caption in "abc")


def test_items_are_in_order_with_their_first_caption():
    batches = list(items_in_order(Numbers(), batch_size=2))
    assert [captions for _, captions in batches] == [["0", "1"], ["2", "3"], ["4"]]
    assert torch.cat([images for images, _ in batches]).flatten().tolist() == [0, 1, 2, 3, 4]


def test_workers_read_the_same_samples():
    here, there = (
        list(islice(loader(Numbers(), batch_size=4, num_workers=workers), 3)) for workers in (0, 1)
    )
    for (images, captions), (read_images, read_captions) in zip(here, there, strict=True):
        assert torch.equal(images, read_images)
        assert captions == read_captions


def test_a_workers_error_keeps_its_message():
    with pytest.raises(ValueError, match=r"^file 3 is damaged$"):
        list(islice(loader(Numbers(broken=True), batch_size=5, num_workers=1), 1))


def test_distinct_captions_are_all_of_them_once():
    class Same(Numbers):
        def captions(self, index):
            return ["all", str(index)]

    assert distinct_captions(Same(3)) == ["all", "0", "1", "2"]


def test_captions_are_stripped_and_may_be_several():
    assert clean_captions(" a cat\n", "here") == ["a cat"]
    assert clean_captions(["a", " b "], "here") == ["a", "b"]


@pytest.mark.parametrize("value", [None, [], 3])
def test_a_missing_caption_is_named(value):
    with pytest.raises(ValueError, match=r"^x\.png has no caption: add one"):
        clean_captions(value, "x.png")


@pytest.mark.parametrize("value", ["", " \n", ["a", ""], ["a", None]])
def test_an_empty_caption_is_named(value):
    with pytest.raises(ValueError, match=r"^x\.png has the empty caption"):
        clean_captions(value, "x.png")


LISTS = [["a", "größer"], [], [""], ["long " * 50, "\n", "日本"]]


def test_lists_are_returned_unchanged():
    packed = StringTable(LISTS)
    assert [packed[i] for i in range(len(packed))] == LISTS
    assert [pickle.loads(pickle.dumps(packed))[i] for i in range(4)] == LISTS


@pytest.mark.parametrize("index", [-1, 4])
def test_indices_out_of_range_are_refused(index):
    with pytest.raises(IndexError, match=rf"index {index} is not in \[0, 4\)"):
        _ = StringTable(LISTS)[index]
