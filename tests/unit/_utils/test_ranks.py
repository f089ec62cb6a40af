"""What one process knows of others; several are in `tests/integration/test_parallel.py`."""

import pytest
import torch.distributed as dist

from harope._utils.ranks import (
    LostProcessError,
    check_one_process,
    claim_report,
    explain_lost_process,
    rank,
    shared_store,
    world_size,
)


@pytest.fixture
def two(monkeypatch):
    """As in the second of two processes that torchrun started, which share a store."""
    store = dist.TCPStore("localhost", 0, is_master=True)
    values = {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": store.port}
    values |= {
        "LOCAL_RANK": 1,
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": 0,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    yield store
    shared_store.cache_clear()


def test_a_process_alone_reports_its_errors():
    assert (rank(), world_size()) == (0, 1)
    assert claim_report()
    assert claim_report()
    assert explain_lost_process(LostProcessError("gone")) is None
    check_one_process("harope compare")


def test_the_first_of_several_processes_reports(two):
    assert [claim_report() for _ in range(3)] == [True, False, False]


def test_after_a_restart_errors_are_reported_again(two, monkeypatch):
    assert claim_report()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    shared_store.cache_clear()
    assert claim_report()


def test_without_a_store_the_main_process_reports(two, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    assert not claim_report()
    monkeypatch.setenv("RANK", "0")
    assert claim_report()


@pytest.mark.parametrize(
    "error",
    [
        LostProcessError("another process has failed"),
        dist.DistNetworkError("the server has gone"),
        RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1"),
    ],
)
def test_errors_of_lost_connections_are_explained(two, error):
    assert "the same command goes on" in (explain_lost_process(error) or "")
    assert explain_lost_process(RuntimeError("shapes do not fit")) is None


def test_commands_that_share_no_work_refuse_several_processes(two):
    with pytest.raises(ValueError, match="`harope bench` works in one process, but 2 were started"):
        check_one_process("harope bench")
