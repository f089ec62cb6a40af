"""`harope push`."""

import pytest

from harope.cli.main import main
from harope.lab.training import publish


@pytest.fixture
def calls(monkeypatch):
    """What is asked of the lab; nothing is written or uploaded."""
    made = []

    def push_run(run, hub_id, *, private):
        made.append((run.name, hub_id, private))
        return "https://hub/commit/1"

    def write_hub_folder(run, folder, hub_id):
        made.append((run.name, folder.name, hub_id))
        return folder

    monkeypatch.setattr(publish, "push_run", push_run)
    monkeypatch.setattr(publish, "write_hub_folder", write_hub_folder)
    return made


def test_a_run_is_uploaded(calls, capsys):
    assert main(["push", "runs/a", "user/a"]) == 0
    assert main(["push", "runs/a", "user/a", "--private"]) == 0
    assert calls == [("a", "user/a", None), ("a", "user/a", True)]
    assert "uploaded: https://hub/commit/1" in capsys.readouterr().out


def test_what_would_be_uploaded_is_written(calls, capsys):
    assert main(["push", "runs/a", "user/a", "--card-only", "card"]) == 0
    assert calls == [("a", "card", "user/a")]
    assert capsys.readouterr().out == "files: card\n"


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["push", str(tmp_path), "user/a"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not a run with a checkpoint" in line
