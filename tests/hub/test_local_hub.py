"""The Hub of the tests, as the real client sees it."""

import huggingface_hub
import pytest

PUSH = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("owner/model", private="private" in sys.argv, exist_ok=True)
print(api.upload_folder(repo_id="owner/model", folder_path=sys.argv[1], commit_message="push").oid)
"""
LOAD = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download("owner/model", revision=sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path):
    """Something to push: small text and a file that goes through LFS."""
    made = tmp_path / "folder"
    (made / "inner").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "inner" / "notes.txt").write_text("a note")
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 4000)
    return made


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_what_is_pushed_comes_back(hub, client, folder, tmp_path):
    [oid] = lines(client(PUSH, folder))
    assert contents(folder).items() <= hub.files("owner/model").items()
    assert ("POST", "/owner/model.git/info/lfs/objects/batch") in hub.requests
    [loaded] = lines(client(LOAD, "main", token=None))
    assert contents(folder).items() <= contents(type(folder)(loaded)).items()
    assert oid in loaded


def test_an_old_revision_stays_what_it_was(client, folder):
    [old] = lines(client(PUSH, folder))
    (folder / "config.json").write_text('{"new": true}')
    lines(client(PUSH, folder))
    [loaded] = lines(client(LOAD, old, token=None))
    assert (type(folder)(loaded) / "config.json").read_text() == "{}"


def test_private_is_for_its_owner(client, folder):
    lines(client(PUSH, folder, "private"))
    for token in (None, "hf_other_token"):
        refused = client(LOAD, "main", token=token)
        assert refused.returncode != 0
        assert "RepositoryNotFoundError" in refused.stderr
    lines(client(LOAD, "main"))


def test_nobody_writes_without_a_token_or_into_what_is_not_theirs(hub, client, folder):
    assert client(PUSH, folder, token=None).returncode != 0
    assert not hub.repositories
    lines(client(PUSH, folder))
    refused = client(
        "from huggingface_hub import HfApi; HfApi().delete_file('config.json', 'owner/model')", token="hf_other_token"
    )
    assert "403 Forbidden" in refused.stderr


def test_an_upload_that_is_cut_off_changes_nothing(hub, client, folder):
    [old] = lines(client(PUSH, folder))
    (folder / "model.safetensors").write_bytes(bytes(2_000_000))
    hub.cut_uploads(*[500_000] * 10)  # more often than the client tries
    impatient = "import time; time.sleep = lambda seconds: None" + PUSH
    assert client(impatient, folder).returncode != 0
    assert hub.repositories["model", "owner/model"].commit("main").oid == old
    hub.cut_uploads()
    lines(client(PUSH, folder))
    assert hub.files("owner/model")["model.safetensors"] == bytes(2_000_000)


def test_pull_requests_and_branches_leave_main_alone(hub, client, folder):
    [main] = lines(client(PUSH, folder))
    script = """
import sys
from huggingface_hub import HfApi
api = HfApi()
made = api.upload_folder(repo_id="owner/model", folder_path=sys.argv[1], path_in_repo="copy", create_pr=True)
api.create_branch("owner/model", branch="tried")
api.upload_folder(repo_id="owner/model", folder_path=sys.argv[1], path_in_repo="copy", revision="tried")
print(made.pr_revision, *[branch.name for branch in api.list_repo_refs("owner/model").branches])
"""
    assert lines(client(script, folder)) == ["refs/pr/1", "main", "tried"]
    assert hub.repositories["model", "owner/model"].commit("main").oid == main
    assert "copy/config.json" in hub.files("owner/model", "refs/pr/1")
    assert "copy/config.json" in hub.files("owner/model", "tried")


def test_the_client_is_the_one_that_this_was_written_for():
    assert huggingface_hub.__version__.split(".")[0] == "2"
