import os
import subprocess
from pathlib import Path

import pytest

from harope._utils.atomic import (
    atomic_folder,
    atomic_path,
    remove_abandoned,
    temporary_path,
    write_json_atomic,
    write_text_atomic,
)


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def leftovers(folder: Path) -> tuple[list[Path], list[Path]]:
    """Temporary paths of processes that have ended, and of others."""
    name, process = temporary_path(folder / "made").name, str(os.getpid())
    ours = [name, name.replace(f"-{process}-", f"-{dead_process()}-")]
    running = name.replace(f"-{process}-", f"-{os.getppid()}-")
    elsewhere = ".made.another-1-00000000.partial"
    return (
        [folder / name for name in ours],
        [folder / name for name in (running, elsewhere, ".made.by-hand.partial", ".made.partial")],
    )


def write_half(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError


def fill_half(folder: Path) -> None:
    with atomic_folder(folder) as temporary:
        (temporary / "new").touch()
        raise KeyError


def test_a_file_is_written_with_its_folders(tmp_path):
    write_text_atomic(tmp_path / "a/b/text.txt", "é\n")
    assert (tmp_path / "a/b/text.txt").read_bytes() == "é\n".encode()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["text.txt"]


def test_json_ends_with_a_line_break(tmp_path):
    write_json_atomic(tmp_path / "x.json", {"a": [1]}, indent=None)
    assert (tmp_path / "x.json").read_text() == '{"a": [1]}\n'


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(KeyError):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "x.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second
        assert str(os.getpid()) in first.name
        first.write_text("first")
        second.write_text("second")
    # The inner block ends first.
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_files_and_folders_are_flushed_around_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def note_flush(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        events.append("folder" if os.path.isdir(name) else "file")
        fsync(descriptor)

    def note_rename(source, target):
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(os, "replace", note_rename)
    write_text_atomic(tmp_path / "x.txt", "x")
    assert events == ["file", "rename", "folder"]
    events.clear()
    with atomic_folder(tmp_path / "made") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner/x.txt").write_text("x")
    assert sorted(events[:-1]) == ["file", "folder", "folder"]
    assert events[-1] == "folder"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "made"
    for name in ("old", "new"):
        with atomic_folder(folder) as temporary:
            assert list(temporary.iterdir()) == []
            (temporary / name).write_text(name)
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failure_leaves_the_old_folder_and_no_other(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyError):
        fill_half(folder)
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path, monkeypatch):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old").touch()
    rename = Path.rename

    def fail(self, target):
        if (self / "new").exists():
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no space"), atomic_folder(folder) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_folders_of_killed_processes_are_removed_those_of_others_are_not(tmp_path):
    ours, stays = leftovers(tmp_path)
    for path in (*ours, *stays):
        path.mkdir()
    with atomic_folder(tmp_path / "made"):
        pass
    assert set(tmp_path.iterdir()) == {tmp_path / "made", *stays}


def test_files_and_folders_of_killed_processes_are_removed_everywhere_below(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    ours, stays = leftovers(below)
    for path in (*ours, *stays):
        path.touch()
    folder = temporary_path(tmp_path / "a")
    folder.mkdir()
    (folder / "x").touch()
    remove_abandoned(tmp_path)
    assert set(below.iterdir()) == set(stays)
    assert not folder.exists()
