import pickle

import pytest

from harope.lab.data.string_table import StringTable

LISTS = [["a", "größer"], [], [""], ["long " * 50, "\n", "日本"]]


def test_lists_are_returned_unchanged():
    packed = StringTable(LISTS)
    assert [packed[i] for i in range(len(packed))] == LISTS
    assert [pickle.loads(pickle.dumps(packed))[i] for i in range(4)] == LISTS


@pytest.mark.parametrize("index", [-1, 4])
def test_indices_out_of_range_are_refused(index):
    with pytest.raises(IndexError, match=rf"index {index} is not in \[0, 4\)"):
        _ = StringTable(LISTS)[index]
