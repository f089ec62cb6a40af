import json

import pytest

from harope.lab.evals.result_store import Key, Request, ResultStore, collect_results, score_images
from harope.lab.metrics.tolerant_reader import TolerantReader
from support.scorer import save_pixel

MADE_BY = {"model": "one", "rules": {"threshold": 0.3}}


@pytest.fixture
def images(tmp_path):
    """Return a folder and requests for the five images in it."""
    for place in range(5):
        save_pixel(tmp_path / "drawn" / f"{place}.png", (place, 0, 0))
    return tmp_path / "drawn", [Request(f"{place}.png", "red") for place in range(5)]


class Red:
    """Scorer that returns the red value of the first pixel and records its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, requests, images):
        self.batches.append([request.name for request in requests])
        return [{"red": int(image[0, 0, 0])} for image in images]


def work(images, folder, scorer, *, rank=0, world_size=1, share=0.0, batch_size=2):
    """Run one process and return a function that collects the results of all."""
    root, requests = images
    reader = TolerantReader(root, len(requests), share)
    store = ResultStore(folder, MADE_BY, rank)
    places = {"rank": rank, "world_size": world_size, "batch_size": batch_size}
    score_images(root, requests, scorer, store, reader, **places)
    return lambda: [values["red"] for values in collect_results(requests, store, root, reader)]


def test_results_come_in_the_order_of_the_images(images):
    scorer = Red()
    assert work(images, None, scorer)() == [0, 1, 2, 3, 4]
    assert [len(batch) for batch in scorer.batches] == [2, 2, 1]


def test_only_what_is_missing_or_was_changed_is_scored_again(images, tmp_path):
    root, requests = images
    work((root, requests[:3]), tmp_path / "kept", Red())
    save_pixel(root / "1.png", (9, 0, 0))
    scorer = Red()
    assert work(images, tmp_path / "kept", scorer)() == [0, 9, 2, 3, 4]
    assert scorer.batches == [["1.png", "3.png"], ["4.png"]]
    scorer = Red()
    changed = [
        Request(request.name, "blue" if request.name == "0.png" else "red") for request in requests
    ]
    work((root, changed), tmp_path / "kept", scorer)
    assert scorer.batches == [["0.png"]]


def test_a_line_that_was_cut_off_is_scored_again(images, tmp_path):
    work(images, tmp_path / "kept", Red())
    (part,) = (tmp_path / "kept").glob("part-*")
    part.write_text(part.read_text()[:-10])
    scorer = Red()
    assert work(images, tmp_path / "kept", scorer)() == [0, 1, 2, 3, 4]
    assert scorer.batches == [["4.png"]]


def test_processes_share_the_work(images, tmp_path):
    scorers = [Red(), Red()]
    ends = [
        work(images, tmp_path / "kept", scorer, rank=rank, world_size=2)
        for rank, scorer in enumerate(scorers)
    ]
    assert ends[0]() == [0, 1, 2, 3, 4]
    assert [sum(map(len, scorer.batches)) for scorer in scorers] == [3, 2]
    scorer = Red()
    assert work(images, tmp_path / "kept", scorer)() == [0, 1, 2, 3, 4]
    assert scorer.batches == []


def test_a_process_that_did_not_finish_is_noticed(images, tmp_path):
    end = work(images, tmp_path / "kept", Red(), world_size=2)
    with pytest.raises(ValueError, match=r"1\.png has no result"):
        end()


def test_damaged_images_are_left_out_up_to_a_share(images):
    (images[0] / "2.png").write_text("hello")
    with pytest.raises(ValueError, match=r"2\.png cannot be read .* 1 of 5 files"):
        work(images, None, Red())
    assert work(images, None, Red(), share=0.2)() == [0, 1, 3, 4]


def test_results_that_were_made_otherwise_are_refused(images, tmp_path):
    ResultStore(tmp_path / "kept", MADE_BY).add(Key("a.png", "0"), {"red": 1})
    with pytest.raises(
        ValueError, match=r"kept holds results made from something else \(model 'one', not 'two'\)"
    ):
        ResultStore(tmp_path / "kept", {**MADE_BY, "model": "two"})
    assert json.loads((tmp_path / "kept/made_by.json").read_text()) == MADE_BY


def test_folders_of_other_files_are_refused(images):
    with pytest.raises(ValueError, match=r"drawn holds files but no made_by\.json"):
        ResultStore(images[0], MADE_BY)


def test_a_batch_holds_at_least_one(images):
    with pytest.raises(ValueError, match="batch_size 0"):
        work(images, None, Red(), batch_size=0)


def test_a_store_without_results_leaves_no_folder(images, tmp_path):
    def fail(requests, images):
        raise ValueError("no results")

    with pytest.raises(ValueError, match="no results"):
        work(images, tmp_path / "kept", fail)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("tail", [b'{"name": "\xc3', b"\xff\xfe", b"[" * 100_000, b'{"name"'])
def test_torn_lines_are_scored_again(images, tmp_path, tail):
    work(images, tmp_path / "kept", Red())
    (part,) = (tmp_path / "kept").glob("part-*")
    lines = part.read_bytes().split(b"\n")
    part.write_bytes(b"\n".join(lines[:-2]) + b"\n" + tail)
    scorer = Red()
    assert work(images, tmp_path / "kept", scorer)() == [0, 1, 2, 3, 4]
    assert scorer.batches == [["4.png"]]


@pytest.mark.parametrize(
    "line", ["[]", "null", "3", '{"name": "0.png"}', '{"name": 0, "digest": []}']
)
def test_lines_of_another_shape_are_named(images, tmp_path, line):
    work(images, tmp_path / "kept", Red())
    (part,) = (tmp_path / "kept").glob("part-*")
    part.write_text(f"{line}\n" + part.read_text())
    with pytest.raises(ValueError, match=r"part-00000\.jsonl line 1: "):
        work(images, tmp_path / "kept", Red())


def test_torn_settings_are_named(images, tmp_path):
    work(images, tmp_path / "kept", Red())
    (tmp_path / "kept/made_by.json").write_text('{"model": "o')
    with pytest.raises(ValueError, match=r"made_by\.json is not JSON"):
        work(images, tmp_path / "kept", Red())
