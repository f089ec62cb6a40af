"""Draws are shared and shuffled without loss, whatever the numbers."""

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from harope.lab.data.dataset import Shuffle, sample_numbers


@given(st.integers(1, 200), st.integers(0, 2**63), st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_any_epoch_is_a_permutation(length, seed, epoch):
    shuffle = Shuffle(length, seed)
    order = [shuffle.index(epoch * length + place) for place in range(length)]
    assert sorted(order) == list(range(length))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000), st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_processes_together_draw_every_number_once(world_size, per_process, start, steps):
    batch_size = world_size * per_process
    numbers = [
        number
        for rank in range(world_size)
        for part in islice(sample_numbers(start, batch_size, rank, world_size), steps)
        for number in part
    ]
    assert sorted(numbers) == list(range(start * batch_size, (start + steps) * batch_size))


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 50))
@settings(deadline=None, max_examples=25)
def test_resumed_draws_are_the_rest_of_the_first_run(batch_size, ranks, stopped):
    size = batch_size * ranks
    whole = list(islice(sample_numbers(0, size, ranks - 1, ranks), stopped + 3))
    assert list(islice(sample_numbers(stopped, size, ranks - 1, ranks), 3)) == whole[stopped:]
