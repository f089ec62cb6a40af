from itertools import islice

import pytest
import torch

from harope.lab.data.dataset import (
    LabelledDataset,
    Shuffle,
    check_same_classes,
    items_in_batches,
    loader,
    sample_numbers,
)
from harope.lab.data.labelled.digits import DigitsDataset


class Counting(LabelledDataset):
    """Image and label of sample n are n; sample 5 may be damaged."""

    shape = (1, 1, 1)
    num_classes = 1000

    def __init__(self, broken: bool = False):
        self.broken = broken

    def samples(self, numbers):
        if self.broken and 5 in numbers:
            raise ValueError("file 5 is damaged: delete it")
        labels = torch.tensor(list(numbers))
        return labels.float().view(-1, 1, 1, 1), labels


def labels_of(dataset, steps, **options):
    return torch.cat([labels for _, labels in islice(loader(dataset, **options), steps)])


def test_every_epoch_visits_every_item_once():
    shuffle = Shuffle(10, seed=4)
    epochs = [[shuffle.index(epoch * 10 + place) for place in range(10)] for epoch in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_shuffles_of_other_seeds_differ():
    first, second = Shuffle(50, seed=0), Shuffle(50, seed=1)
    assert [first.index(i) for i in range(50)] != [second.index(i) for i in range(50)]


def test_shuffle_does_not_depend_on_the_order_of_calls():
    forwards, backwards = Shuffle(7, seed=0), Shuffle(7, seed=0)
    assert [forwards.index(i) for i in range(21)] == [
        backwards.index(i) for i in reversed(range(21))
    ][::-1]


def test_every_order_of_three_items_is_equally_likely():
    shuffle = Shuffle(3, seed=0)
    orders = [tuple(shuffle.index(3 * e + place) for place in range(3)) for e in range(3000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    # 500 expected each; five standard deviations of a binomial are 102.
    assert all(abs(count - 500) < 102 for count in counts)


def test_processes_share_each_step_in_rank_order():
    first, second = (
        sample_numbers(2, 4, rank=0, world_size=2),
        sample_numbers(2, 4, rank=1, world_size=2),
    )
    assert [list(next(first)), list(next(second))] == [[8, 9], [10, 11]]
    assert [list(next(first)), list(next(second))] == [[12, 13], [14, 15]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 6, 0, 4), "batch_size 6 cannot be split equally among world_size 4"),
        ((0, 0, 0, 1), "batch_size 0 cannot be split"),
        ((0, 4, 2, 2), r"rank 2 is not in \[0, world_size 2\)"),
        ((-1, 4, 0, 1), "start must be 0 or greater, got -1"),
    ],
)
def test_invalid_splits_are_refused_before_the_first_batch(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_numbers(*arguments)


@pytest.mark.parametrize(("length", "seed"), [(0, 0), (5, -1)])
def test_shuffle_refuses_empty_data_and_negative_seeds(length, seed):
    with pytest.raises(
        ValueError, match=r"length must be at least 1, got 0|seed must be 0 or greater, got -1"
    ):
        Shuffle(length, seed)


def test_samples_are_the_same_for_one_and_two_processes():
    alone = labels_of(Counting(), 3, batch_size=4)
    shared = [labels_of(Counting(), 3, batch_size=4, rank=rank, world_size=2) for rank in (0, 1)]
    merged = torch.stack([part.view(3, 2) for part in shared], dim=1).flatten()
    assert merged.tolist() == alone.tolist() == list(range(12))


def test_samples_are_the_same_for_every_batch_size():
    dataset = DigitsDataset(seed=2)
    by_eight, by_two = labels_of(dataset, 3, batch_size=8), labels_of(dataset, 12, batch_size=2)
    assert torch.equal(by_eight, by_two)


def test_resumed_training_continues_with_the_next_sample():
    whole = labels_of(DigitsDataset(seed=2), 6, batch_size=8)
    assert torch.equal(labels_of(DigitsDataset(seed=2), 4, batch_size=8, start_step=2), whole[16:])


def test_workers_read_the_batches_of_the_main_process():
    dataset = DigitsDataset(seed=2)
    here = islice(loader(dataset, batch_size=16, num_workers=0), 4)
    there = islice(loader(dataset, batch_size=16, num_workers=2), 4)
    for (images, labels), (read_images, read_labels) in zip(here, there, strict=True):
        assert torch.equal(images, read_images)
        assert torch.equal(labels, read_labels)


def test_workers_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    next(loader(Counting(), batch_size=2, num_workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_in_a_worker_keeps_its_one_line_message():
    batches = loader(Counting(broken=True), batch_size=2, num_workers=1)
    assert next(batches)[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"^file 5 is damaged: delete it$"):
        list(islice(batches, 2))


def test_items_in_batches_are_those_of_the_given_indices():
    dataset = DigitsDataset(seed=2)
    batches = list(items_in_batches(dataset, [range(1790, 1795), range(1795, 1797)]))
    assert [len(labels) for _, labels in batches] == [5, 2]
    assert torch.equal(
        torch.cat([labels for _, labels in batches]), dataset.items(range(1790, 1797))[1]
    )


class Named(LabelledDataset):
    """Dataset of named classes without samples."""

    def __init__(self, *classes, num_classes=None):
        self.classes, self.num_classes = classes, num_classes or len(classes)

    def samples(self, numbers):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("data", "held_out", "message"),
    [
        (Named("a", "b"), Named("a", "b"), None),
        (Named("a", "b"), Named(num_classes=2), None),
        (Named(num_classes=3), Named(num_classes=2), None),
        (Named("a", "b", "c"), Named("a", "c"), "held_out has no class 'b', which data has"),
        (Named("b"), Named("a", "b"), "data has no class 'a', which held_out has"),
        (Named(num_classes=2), Named(num_classes=3), "held_out has 3 classes, but data has 2"),
    ],
)
def test_classes_that_are_missing_on_one_side_are_named(data, held_out, message):
    if message is None:
        check_same_classes(data, held_out)
        return
    with pytest.raises(ValueError, match=message):
        check_same_classes(data, held_out)
