import json

import pytest

from harope._utils.identity import Difference, ResumableFolder, first_difference

IDENTITY = {"model": {"depth": 2, "encoding": "axial"}, "labels": (0, 1), "vae": None}


def test_the_first_differing_field_is_found():
    given = {"model": {"depth": 2, "encoding": "harope"}, "labels": [0, 1], "vae": "other"}
    stored = json.loads(json.dumps(IDENTITY))
    assert first_difference(stored, stored) is None
    assert first_difference(stored, given) == Difference("model.encoding", "'axial'", "'harope'")
    assert first_difference(stored, given, ignore=("model",)) == Difference(
        "vae", "None", "'other'"
    )


@pytest.mark.parametrize(
    ("stored", "given", "text"),
    [
        ({"a": 1}, {}, "a 1, not absent"),
        ({}, {"a": None}, "a absent, not None"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a.1 2, not 3"),
        ({"a": [1, 2]}, {"a": [1]}, "a [1, 2], not [1]"),
        ({"a": {"b": 1}}, {"a": 1}, "a {'b': 1}, not 1"),
        ([], {}, "value [], not {}"),
    ],
)
def test_a_difference_says_both_values(stored, given, text):
    assert str(first_difference(stored, given)) == text


def test_not_a_number_equals_itself():
    assert first_difference({"a": float("nan")}, {"a": float("nan")}) is None


def test_a_folder_is_begun_once_and_resumed_after(tmp_path):
    folder = ResumableFolder(tmp_path / "out", IDENTITY, manifest=tmp_path / "out/made.json")
    assert folder.check() is False
    assert not folder.folder.exists()
    assert folder.begin() is False
    assert json.loads((tmp_path / "out/made.json").read_text())["labels"] == [0, 1]
    (tmp_path / "out/000000.png").touch()
    assert folder.check() is True
    assert folder.begin() is True


def test_another_identity_is_refused_naming_field_and_values(tmp_path):
    ResumableFolder(tmp_path, IDENTITY).begin()
    before = (tmp_path / "identity.json").read_text()
    other = ResumableFolder(
        tmp_path, IDENTITY | {"labels": (0, 2)}, content="samples", hint="choose another --out"
    )
    message = r"holds samples made from something else \(labels\.1 1, not 2\): choose another --out"
    for refused in (other.check, other.begin):
        with pytest.raises(ValueError, match=message):
            refused()
    assert (tmp_path / "identity.json").read_text() == before


def test_a_folder_of_others_is_not_adopted(tmp_path):
    (tmp_path / "holiday.png").touch()
    with pytest.raises(ValueError, match=r"holds files but no identity\.json"):
        ResumableFolder(tmp_path, IDENTITY).begin()
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.png"]


def test_leftovers_of_killed_runs_are_no_content(tmp_path):
    (tmp_path / ".identity.json.1-2.partial").touch()
    assert ResumableFolder(tmp_path, IDENTITY).begin() is False


def test_a_manifest_may_lie_elsewhere(tmp_path):
    folder = ResumableFolder(tmp_path / "out", IDENTITY, manifest=tmp_path / "out.json")
    folder.begin()
    assert list((tmp_path / "out").iterdir()) == []
    assert folder.check() is True


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / "identity.json").write_text(text)
    with pytest.raises(ValueError, match=r"identity\.json is not JSON|something else"):
        ResumableFolder(tmp_path, IDENTITY).begin()
