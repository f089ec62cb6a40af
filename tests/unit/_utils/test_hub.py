"""Files of the Hugging Face Hub, with and without an answer from it."""

import sys
import time
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from harope._utils import hub
from harope._utils.hub import (
    check_upload,
    download_files,
    find_files,
    local_files_only,
    upload_folder,
)

USER = {
    "name": "somebody",
    "orgs": [{"name": "lab"}],
    "auth": {"accessToken": {"role": "write"}},
}


def answer(kind: type[HfHubHTTPError]) -> HfHubHTTPError:
    """An error that the Hub answered with."""
    return kind("401 Client Error\nmore lines", response=SimpleNamespace(headers={}, request=None))


@pytest.fixture
def ask(monkeypatch):
    """Let the Hub answer with a result or an error; return the list of requests."""
    requests = []

    def respond(result):
        def reply(*args, **kwargs):
            requests.append((args[1:], kwargs))
            if isinstance(result, Exception):
                raise result
            return result

        api = type("HfApi", (), {"__init__": lambda self, token=None: None})
        api.repo_info = api.whoami = reply
        monkeypatch.setattr(huggingface_hub, "HfApi", api)
        return requests

    return respond


@pytest.fixture
def snapshot(monkeypatch, tmp_path):
    """A repository with one file, which is cached; `calls` has the arguments of downloads."""
    (tmp_path / "config.json").touch()
    calls = []

    def download(hub_id, **options):
        calls.append((hub_id, options))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return SimpleNamespace(folder=tmp_path, calls=calls)


def not_cached(*args, **kwargs):
    raise OSError("no such snapshot")


def test_files_are_downloaded_from_a_hub_that_answers(ask, snapshot):
    requests = ask(None)
    folder = download_files("a/b", ["config.json"], optional=["train.json"], revision="v1")
    assert folder == snapshot.folder
    assert requests == [
        (("a/b",), {"repo_type": "model", "revision": "v1", "timeout": hub._SECONDS})
    ]
    patterns = ["config.json", "train.json"]
    assert snapshot.calls == [("a/b", {"allow_patterns": patterns, "revision": "v1"})]


def test_without_the_hub_files_are_read_from_the_cache(ask, snapshot):
    ask(ConnectionError("no network"))
    assert download_files("a/b", ["config.json"]) == snapshot.folder
    ((_, options),) = snapshot.calls
    assert options["local_files_only"]


def test_without_the_hub_and_a_cache_the_reason_is_given(ask, monkeypatch):
    ask(ConnectionError("no network"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_cached)
    with pytest.raises(ValueError, match=r"'a/b' is not a folder and not cached, .*\(no network\)"):
        download_files("a/b", ["config.json"])
    with pytest.raises(ValueError, match="local_files_only forbids downloads"):
        download_files("a/b", ["config.json"], local_files_only=True)


def test_a_file_that_is_missing_from_the_cache_is_not_said_to_be_missing_on_the_hub(ask, snapshot):
    ask(ConnectionError("no network"))
    match = r"harope\.safetensors of 'a/b' is not cached, and .* cannot be reached \(no network\)"
    with pytest.raises(ValueError, match=match):
        download_files("a/b", ["config.json", "harope.safetensors"])


def test_a_hub_that_does_not_answer_is_given_up_soon(monkeypatch):
    def repo_info(self, *args, **kwargs):
        time.sleep(10)

    monkeypatch.setattr(huggingface_hub, "HfApi", type("HfApi", (), {"repo_info": repo_info}))
    monkeypatch.setattr(huggingface_hub.HfApi, "__init__", lambda self, token: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_cached)
    monkeypatch.setattr(hub, "_SECONDS", 0.05)
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"no answer within 0\.05 seconds"):
        download_files("a/b", ["config.json"])
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (GatedRepoError, "'a/b' is gated: accept its conditions"),
        (RepositoryNotFoundError, "the Hugging Face Hub has no such public repository"),
        (RevisionNotFoundError, "'a/b' has no revision 'v1'"),
    ],
)
def test_what_the_hub_does_not_have_is_named(ask, kind, message):
    ask(answer(kind))
    with pytest.raises(ValueError, match=message):
        download_files("a/b", ["config.json"], revision="v1")


def test_a_missing_file_and_a_failed_download_are_named(ask, snapshot, monkeypatch):
    ask(None)
    with pytest.raises(ValueError, match=r"'a/b' has no file harope\.safetensors on the"):
        download_files("a/b", ["harope.safetensors"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_cached)
    with pytest.raises(ValueError, match=r"'a/b' cannot be downloaded \(no such snapshot\)"):
        download_files("a/b", ["config.json"])


@pytest.mark.parametrize("name", ["a b", "a/b/c", "../x", "", "a--b"])
def test_a_name_that_is_no_id_is_refused_without_a_request(name):
    with pytest.raises(ValueError, match="is neither a folder nor an id of the Hugging Face Hub"):
        download_files(name, ["config.json"])
    with pytest.raises(ValueError, match="cannot be the id of a repository"):
        check_upload(name, token="t")


def test_other_libraries_do_without_a_hub_that_cannot_be_reached(ask, snapshot, monkeypatch):
    assert local_files_only(snapshot.folder)
    ask(None)
    assert not local_files_only("a/b")
    ask(ConnectionError("no network"))
    assert local_files_only("a/b")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_cached)
    with pytest.raises(ValueError, match="not cached"):
        local_files_only("a/b", repo_type="dataset")


def test_files_are_found_without_downloading(tmp_path, monkeypatch):
    assert find_files(tmp_path) == tmp_path
    assert find_files("not/cached") is None
    assert find_files("no id") is None
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda hub_id, name: str(tmp_path / name)
    )
    assert find_files("a/b") == tmp_path


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (USER | {"auth": {"accessToken": {"role": "read"}}}, "token of somebody cannot write, whi"),
        (USER, "token of somebody cannot write to 'other/m': choose an id such as somebody/m"),
        (ConnectionError("no network"), r"the Hugging Face Hub cannot be reached \(no network\)"),
        (answer(HfHubHTTPError), r"does not accept the access token \(401 Client Error\)"),
    ],
)
def test_what_prevents_an_upload_is_named_before_it(ask, user, message):
    ask(user)
    with pytest.raises(ValueError, match=message):
        check_upload("other/m", token="t")


@pytest.mark.parametrize("hub_id", ["m", "somebody/m", "lab/m"])
def test_users_may_upload_to_their_own_repositories(ask, hub_id):
    ask(USER)
    check_upload(hub_id, token="t")


def test_without_a_token_or_the_library_an_upload_says_what_to_do(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ValueError, match=r"needs an access token .*: run `hf auth login`"):
        check_upload("a/b")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        check_upload("a/b")


def test_a_failed_upload_is_one_line(ask, monkeypatch, tmp_path):
    ask(USER)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", not_cached, raising=False)
    with pytest.raises(ValueError, match="uploading to 'm' failed: no such snapshot"):
        upload_folder(tmp_path, "m", token="t")
