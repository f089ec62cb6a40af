import io
import pickle
import tarfile
from itertools import islice

import pytest
import torch
from PIL import Image

from harope.lab.data.captioned.stream import StreamDataConfig, open_stream
from harope.lab.data.dataset import loader

SHARDS, ROWS = 3, 7
TOTAL = SHARDS * ROWS


def jpeg(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Tar shards of images whose captions are their numbers."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as file:
            for number in range(shard * ROWS, (shard + 1) * ROWS):
                for ending, content in (("png", jpeg(10 * number)), ("txt", b"%d" % number)):
                    member = tarfile.TarInfo(f"{number:03d}.{ending}")
                    member.size = len(content)
                    file.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture
def stream(shards):
    return open_tars(shards)


def open_tars(shards, seed=0, **fields):
    columns = {"image_column": "png", "text_column": "txt"}
    root = f"{shards}/{{00000..{SHARDS - 1:05d}}}.tar"
    config = StreamDataConfig(root=root, image_size=8, block_size=4, **(columns | fields))
    return open_stream(config, seed)


def captions(dataset, numbers) -> list[int]:
    return [int(caption) for caption in dataset.samples(numbers)[1]]


def test_every_epoch_has_every_row_once_in_another_order(stream):
    """Blocks that cross the end of an epoch mix it with the next one."""
    seen = captions(stream, range(4 * TOTAL))
    assert sorted(seen) == [number for number in range(TOTAL) for _ in range(4)]
    assert seen[:TOTAL] != sorted(seen[:TOTAL])
    assert seen[:TOTAL] != seen[TOTAL : 2 * TOTAL]


def test_images_belong_to_their_captions(stream):
    images, texts = stream.samples(range(6))
    red = ((images[:, 0, 4, 4] + 1) * 127.5).round().int().tolist()
    assert red == [10 * int(text) for text in texts]


def test_what_resumes_in_the_middle_of_an_epoch_sees_the_same(shards, stream):
    expected = list(islice(loader(stream, batch_size=4), 12))
    for start in (1, 3, 8):
        resumed = loader(open_tars(shards), batch_size=4, start_step=start)
        for (images, texts), (others, other_texts) in zip(resumed, expected[start:], strict=False):
            assert torch.equal(images, others)
            assert texts == other_texts


def test_processes_and_workers_divide_the_same_samples(shards, stream):
    expected = captions(stream, range(24))
    halves = [
        islice(
            loader(open_tars(shards), batch_size=4, rank=rank, world_size=2, num_workers=workers), 6
        )
        for rank, workers in ((0, 2), (1, 0))
    ]
    texts = [int(text) for pair in zip(*halves, strict=True) for _, part in pair for text in part]
    assert texts == expected


def test_earlier_samples_are_found_again(stream):
    first = captions(stream, range(4))
    later = captions(stream, range(16, 20))
    assert captions(stream, range(4)) == first
    assert captions(pickle.loads(pickle.dumps(stream)), range(16, 20)) == later


def test_the_seed_changes_the_order(shards, stream):
    assert captions(open_tars(shards, seed=1), range(20)) != captions(stream, range(20))


def open_parquet(folder, texts):
    import datasets

    pictures = [{"bytes": jpeg(number), "path": None} for number in range(len(texts))]
    data = datasets.Dataset.from_dict({"image": pictures, "text": texts})
    data.cast_column("image", datasets.Image()).to_parquet(folder / "train.parquet")
    return open_stream(StreamDataConfig(root=str(folder), image_size=8, block_size=2), 0)


def test_parquet_files_of_a_folder_are_streamed(tmp_path):
    stream = open_parquet(tmp_path, [[str(number), str(number)] for number in range(5)])
    assert sorted(captions(stream, range(10))) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_column_that_is_missing_is_named(shards):
    with pytest.raises(ValueError, match=r"column 'jpg' is not in .*: it has .*'png'"):
        open_tars(shards, image_column="jpg")


def test_a_caption_that_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"sample 0 of the stream .* has the empty caption ''"):
        open_parquet(tmp_path, [""]).samples([0])
