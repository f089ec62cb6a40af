import json

import pytest

from harope.lab.evals.result_store import ResultStore, Task, finished, score_images
from harope.lab.metrics.tolerant_reader import TolerantReader
from support.scorer import save_pixel

MADE_BY = {"model": "one", "rules": {"threshold": 0.3}}


@pytest.fixture
def pictures(tmp_path):
    """A root and what is asked of the five pictures in it."""
    for place in range(5):
        save_pixel(tmp_path / "drawn" / f"{place}.png", (place, 0, 0))
    return tmp_path / "drawn", [Task(f"{place}.png", "red") for place in range(5)]


class Red:
    """Says how red the first pixel is, and counts its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, tasks, images):
        self.batches.append([task.name for task in tasks])
        return [{"red": int(image[0, 0, 0])} for image in images]


def work(pictures, folder, judge, *, rank=0, world_size=1, share=0.0, batch_size=2):
    """What a process does, and what the first process reads then."""
    root, tasks = pictures
    damage = TolerantReader(root, len(tasks), share)
    ledger = ResultStore(folder, MADE_BY, rank)
    places = {"rank": rank, "world_size": world_size, "batch_size": batch_size}
    score_images(root, tasks, judge, ledger, damage, **places)
    return lambda: [values["red"] for values in finished(tasks, ledger, root, damage)]


def test_results_come_in_the_order_of_the_pictures(pictures):
    judge = Red()
    assert work(pictures, None, judge)() == [0, 1, 2, 3, 4]
    assert [len(batch) for batch in judge.batches] == [2, 2, 1]


def test_only_what_is_missing_or_was_changed_is_judged_again(pictures, tmp_path):
    root, tasks = pictures
    work((root, tasks[:3]), tmp_path / "kept", Red())
    save_pixel(root / "1.png", (9, 0, 0))
    judge = Red()
    assert work(pictures, tmp_path / "kept", judge)() == [0, 9, 2, 3, 4]
    assert judge.batches == [["1.png", "3.png"], ["4.png"]]
    judge = Red()
    asked = [Task(task.name, "blue" if task.name == "0.png" else "red") for task in tasks]
    work((root, asked), tmp_path / "kept", judge)
    assert judge.batches == [["0.png"]]


def test_a_line_that_was_cut_off_is_judged_again(pictures, tmp_path):
    work(pictures, tmp_path / "kept", Red())
    (part,) = (tmp_path / "kept").glob("part-*")
    part.write_text(part.read_text()[:-10])
    judge = Red()
    assert work(pictures, tmp_path / "kept", judge)() == [0, 1, 2, 3, 4]
    assert judge.batches == [["4.png"]]


def test_processes_share_the_work(pictures, tmp_path):
    judges = [Red(), Red()]
    ends = [
        work(pictures, tmp_path / "kept", judge, rank=rank, world_size=2)
        for rank, judge in enumerate(judges)
    ]
    assert ends[0]() == [0, 1, 2, 3, 4]
    assert [sum(map(len, judge.batches)) for judge in judges] == [3, 2]
    judge = Red()
    assert work(pictures, tmp_path / "kept", judge)() == [0, 1, 2, 3, 4]
    assert judge.batches == []


def test_a_process_that_did_not_finish_is_noticed(pictures, tmp_path):
    end = work(pictures, tmp_path / "kept", Red(), world_size=2)
    with pytest.raises(ValueError, match=r"1\.png has no result"):
        end()


def test_damaged_pictures_are_left_out_up_to_a_share(pictures):
    (pictures[0] / "2.png").write_text("hello")
    with pytest.raises(ValueError, match=r"2\.png cannot be read .* 1 of 5 files"):
        work(pictures, None, Red())
    assert work(pictures, None, Red(), share=0.2)() == [0, 1, 3, 4]


def test_results_that_were_made_otherwise_are_refused(pictures, tmp_path):
    ResultStore(tmp_path / "kept", MADE_BY)
    with pytest.raises(ValueError, match=r"kept holds results with model one and now it is two"):
        ResultStore(tmp_path / "kept", {**MADE_BY, "model": "two"})
    assert json.loads((tmp_path / "kept/made_by.json").read_text()) == MADE_BY


def test_folders_of_other_files_are_refused(pictures):
    with pytest.raises(ValueError, match=r"drawn holds files but no made_by\.json"):
        ResultStore(pictures[0], MADE_BY)


def test_a_batch_holds_at_least_one(pictures):
    with pytest.raises(ValueError, match="batch_size 0"):
        work(pictures, None, Red(), batch_size=0)
