import json

import pytest

from harope.lab.evals.geneval.folders import read_geneval_folder
from support.scorer import geneval_reads, write_geneval


@pytest.fixture
def folder(tmp_path):
    return write_geneval(tmp_path / "drawn", ["dog", "cat"])


def test_what_is_read_is_what_the_official_scorer_reads(folder):
    (folder / "prompts.json").write_text("{}")
    (folder / "00000/grid.png").write_bytes(b"")
    (folder / "00000/samples/note.txt").write_bytes(b"")
    official = [(path, metadata) for path, metadata, _ in geneval_reads(folder)]
    assert [(one.name, one.metadata) for one in read_geneval_folder(folder)] == official


def test_a_missing_picture_is_counted_and_its_prompt_named(folder):
    (folder / "00001/samples/0001.png").unlink()
    with pytest.raises(ValueError, match=r"00001 has 1 images .* have 2: 1 of 4 images"):
        read_geneval_folder(folder)


def test_a_missing_prompt_is_named(folder):
    (folder / "00000").rename(folder / "00002")
    with pytest.raises(ValueError, match=r"drawn has no prompt 00000"):
        read_geneval_folder(folder)


def test_missing_metadata_is_named(folder):
    (folder / "00001/metadata.jsonl").unlink()
    with pytest.raises(ValueError, match=r"00001.metadata\.jsonl is missing"):
        read_geneval_folder(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "metadata.jsonl is not JSON"),
        (b"\xff", "metadata.jsonl is not UTF-8"),
        (
            json.dumps(
                {"tag": "t", "prompt": "p", "include": [{"class": "dragon", "count": 1}]}
            ).encode(),
            "asks for 'dragon', which is none of GenEval's 80 classes",
        ),
    ],
)
def test_metadata_that_cannot_be_scored_is_refused(folder, text, words):
    (folder / "00000/metadata.jsonl").write_bytes(text)
    with pytest.raises(ValueError, match=words):
        read_geneval_folder(folder)


def test_folders_of_another_layout_are_refused(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/000000.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"plain does not have GenEval's format"):
        read_geneval_folder(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"nowhere is not a folder"):
        read_geneval_folder(tmp_path / "nowhere")
    (tmp_path / "empty/00000/samples").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"00000 has 0 images"):
        read_geneval_folder(tmp_path / "empty")
