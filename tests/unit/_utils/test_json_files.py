import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from harope._utils.json_files import load_json, parse_json, read_json, validate


@dataclass
class Optimizer:
    lr: float

    def __post_init__(self):
        if self.lr < 0:
            raise ValueError(f"lr {self.lr} must not be negative")


@dataclass
class Config:
    steps: int
    optimizer: Optimizer
    sizes: tuple[int, ...] = ()


GOOD = '{"steps": 3, "optimizer": {"lr": 1}, "sizes": [1, 2]}'


def test_a_file_of_the_expected_type_is_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(GOOD)
    assert read_json(path, Config) == Config(3, Optimizer(1.0), (1, 2))
    assert read_json(path, dict[str, Any])["sizes"] == [1, 2]
    assert load_json(path)["steps"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not JSON: Expecting value"),
        (b"{", r"is not JSON: Expecting property name"),
        (b'{"steps": 3}\xff', r"is not JSON: .*can't decode byte 0xff"),
        (b"[" * 100_000, r"is not JSON: it is nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, r"is not JSON: it is nested too deeply"),
        (b"1" * 10_000, r"is not JSON: Exceeds the limit"),
        (b"null", r": .*dictionary.* got None"),
        (b"[]", r": .*dictionary.* got \[\]"),
        (b"{}", r": steps is missing"),
        (b'{"steps": 3, "optimizer": {}}', r": optimizer\.lr is missing"),
        (b'{"steps": null, "optimizer": {"lr": 1}}', r": steps: .*valid integer, got None"),
        (b'{"steps": "many", "optimizer": {"lr": 1}}', r": steps: .*valid integer.* got 'many'"),
        (b'{"steps": 3, "optimizer": {"lr": []}}', r": optimizer\.lr: .*valid number, got \[\]"),
        (b'{"steps": 3, "optimizer": {"lr": -1}}', r": optimizer: lr -1\.0 must not be negative$"),
        (b'{"steps": 3, "optimizer": {"lr": 1}, "sizes": [1, "x"]}', r": sizes\.1: .* got 'x'"),
    ],
)
def test_every_other_file_is_refused_with_its_name_and_field(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.json{message}|x\.json {message}"):
        read_json(path, Config)


def test_a_file_that_cannot_be_opened_is_refused_alike(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json cannot be read: No such file"):
        read_json(tmp_path / "none.json", Config)
    with pytest.raises(ValueError, match=r"cannot be read: Is a directory"):
        load_json(tmp_path)


def test_long_values_are_cut_in_messages():
    with pytest.raises(ValueError, match="steps") as caught:
        validate({"steps": "9x" * 1000, "optimizer": {"lr": 1}}, Config, "here")
    assert len(str(caught.value)) < 250


def test_the_source_of_a_line_is_named():
    with pytest.raises(ValueError, match=r"^metadata\.jsonl line 3 is not JSON"):
        parse_json("{", "metadata.jsonl line 3")


def test_parsing_needs_no_pydantic():
    code = (
        "import sys; import harope._utils.json_files as j; j.parse_json('1', ''); "
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
