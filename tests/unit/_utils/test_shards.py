import pytest
from hypothesis import given
from hypothesis import strategies as st

from harope._utils.shards import contiguous_shard, strided_shard


@given(st.integers(0, 50), st.integers(1, 9))
def test_shards_hold_every_item_once(count, world_size):
    blocks = [contiguous_shard(count, rank, world_size) for rank in range(world_size)]
    assert [item for block in blocks for item in block] == list(range(count))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    strides = [strided_shard(range(count), rank, world_size) for rank in range(world_size)]
    assert sorted(item for stride in strides for item in stride) == list(range(count))


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_process_that_does_not_exist_is_refused(rank):
    with pytest.raises(ValueError, match=rf"rank {rank} must lie in .* world_size is 2"):
        contiguous_shard(10, rank, 2)
    with pytest.raises(ValueError, match=rf"rank {rank} must lie in"):
        strided_shard([1, 2], rank, 2)
