import json
import os
import subprocess
import sys

import pytest

from harope._utils import folder_lock
from harope._utils.folder_lock import LOCK_FILE, lock_folder
from harope._utils.processes import host_name

HOLD = """
import sys
from harope._utils.folder_lock import lock_folder
with lock_folder(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds the lock of a folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def write_lock(folder, **holder):
    values = {"host": host_name(), "pid": 1, "since": "2026-01-01 00:00:00"} | holder
    (folder / LOCK_FILE).write_text(json.dumps(values))


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_locked_folder_is_refused_and_the_holder_named(tmp_path, holder):
    words = rf"{tmp_path} is in use by process {holder.pid} on {host_name()} since 20\d\d-"
    with pytest.raises(ValueError, match=words), lock_folder(tmp_path):
        pass
    holder.communicate("")
    with lock_folder(tmp_path) as former:
        assert former is None
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with lock_folder(tmp_path) as former:
        assert former.pid == holder.pid
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 3}', b"\xff"])
def test_a_damaged_lock_file_is_taken_over(tmp_path, content):
    (tmp_path / LOCK_FILE).write_bytes(content)
    with lock_folder(tmp_path) as former:
        assert former is None


def test_folders_in_which_nothing_was_written_are_removed_again(tmp_path):
    with pytest.raises(RuntimeError), lock_folder(tmp_path / "runs/one"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with lock_folder(tmp_path / "runs/one"):
        (tmp_path / "runs/one/config.json").touch()
    assert [path.name for path in (tmp_path / "runs/one").iterdir()] == ["config.json"]


def test_without_locks_of_the_system_the_file_is_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "fcntl", None)
    write_lock(tmp_path, pid=ended_process())
    with lock_folder(tmp_path) as former:
        assert former is not None
    for holder in ({"pid": os.getppid()}, {"host": "elsewhere"}):
        write_lock(tmp_path, **holder)
        with pytest.raises(ValueError, match=r"or remove .*\.lock"), lock_folder(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).exists()
