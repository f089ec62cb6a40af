"""Plans of sample folders."""

import pytest

from harope.lab.sampling.class_folder import FolderPlan


def test_a_plan_has_a_label_for_every_sample():
    with pytest.raises(ValueError, match=r"there are 3 labels but count is 2: pass one label"):
        FolderPlan(shape=(1, 8, 8), labels=(0, 1, 2), count=2)


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (4, 0)])
def test_counts_must_be_positive(count, batch_size):
    with pytest.raises(ValueError, match="must be at least 1"):
        FolderPlan(shape=(1, 8, 8), labels=None, count=count, batch_size=batch_size)
