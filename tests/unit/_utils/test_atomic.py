import os
import subprocess

import pytest

from harope._utils.atomic import atomic_folder, atomic_path, write_json_atomic, write_text_atomic


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


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
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError
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
    with pytest.raises(KeyError), atomic_folder(folder) as temporary:
        (temporary / "new").touch()
        raise KeyError
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_folders_of_killed_processes_are_removed_those_of_others_are_not(tmp_path):
    abandoned = tmp_path / f".made.{dead_process()}-00000000.partial"
    former_self = tmp_path / f".made.{os.getpid()}-00000000.partial"
    running = tmp_path / f".made.{os.getppid()}-00000000.partial"
    foreign = tmp_path / ".made.by-hand.partial"
    for path in (abandoned, former_self, running, foreign):
        path.mkdir()
    with atomic_folder(tmp_path / "made"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"made", running.name, foreign.name}
