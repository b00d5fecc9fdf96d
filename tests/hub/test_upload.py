"""What reaches the Hub, and what stays as it was."""

import pytest

UPLOAD = """
import json, sys
from pathlib import Path
from vanilla_recipes.errors import UserError
from vanilla_recipes.publishing.upload import Target, check_place, upload
target = Target("owner/model", **json.loads(sys.argv[2]))
try:
    check_place(target, json.loads(Path(sys.argv[1], "config.json").read_text())["model_type"], "overwrite" in sys.argv)
    print(*upload(Path(sys.argv[1]), target, "push"))
except UserError as error:
    sys.exit(f"refused: {error}")
"""


OWN = ("handler.py", "search.py", "assets/logo.png", "assets/one.py")
"""Files of the owner's, which no push touches."""


@pytest.fixture
def folder(tmp_path):
    """Something like a model, with weights that go through LFS."""
    made = tmp_path / "folder"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "one", "auto_map": {"AutoModel": "one.One"}}')
    (made / "one.py").write_text("from .layers import ONE")
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 4000)
    (made / "layers.py").write_text("ONE = 1")
    return made


@pytest.fixture
def push(client, folder):
    """Uploads the folder; what came out."""
    return lambda target="{}", *words, **environment: client(UPLOAD, folder, target, *words, **environment)


def oid(done) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1]


def refusal(done) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("refused: ")]
    return line


def test_what_an_older_push_left_goes_and_older_revisions_stay(hub, folder, push):
    (folder / "tokenizer.json").write_text("{}")
    (folder / "gpt2").mkdir()
    (folder / "gpt2" / "config.json").write_text("{}")
    (folder / "assets").mkdir()
    for path in OWN:
        (folder / path).write_text("mine")
    old = oid(push())
    for path in OWN:
        (folder / path).unlink()
    for name in ("one.py", "layers.py"):
        (folder / name).unlink()
    (folder / "tokenizer.json").unlink()
    (folder / "gpt2" / "config.json").unlink()
    (folder / "config.json").write_text('{"model_type": "two"}')
    assert "holds a model of another type, one, which this two would replace" in refusal(push())
    assert oid(push("{}", "overwrite")) != old
    assert hub.files("owner/model").keys() == {".gitattributes", "config.json", "model.safetensors", *OWN}
    assert {"one.py", "layers.py", "tokenizer.json", "gpt2/config.json"} < hub.files("owner/model", old).keys()


def test_private_branches_and_pull_requests(hub, push):
    oid(push('{"private": true, "revision": "tried"}'))
    assert hub.repositories["model", "owner/model"].private
    assert "config.json" in hub.files("owner/model", "tried")
    assert "config.json" not in hub.files("owner/model")
    hub.repositories["model", "owner/model"].private = False
    assert "is public, so --private has no effect" in refusal(push('{"private": true}'))
    oid(push('{"create_pr": true}', token="hf_other_token"))
    assert "config.json" in hub.files("owner/model", "refs/pr/1")
    assert "config.json" not in hub.files("owner/model")
    assert "the access token may not write there" in refusal(push(token="hf_other_token"))


def test_a_full_hub_keeps_what_it_has(hub, folder, push):
    old = oid(push())
    (folder / "model.safetensors").write_bytes(bytes(1_000_000))
    hub.is_full = True
    assert "the storage on the Hub is full (Storage limit reached)" in refusal(push())
    assert hub.repositories["model", "owner/model"].commit("main").oid == old


def test_a_cut_connection_keeps_it_too_and_the_same_push_ends_it(hub, folder, push, client):
    old = oid(push())
    (folder / "model.safetensors").write_bytes(bytes(2_000_000))
    hub.cut_uploads(*[500_000] * 10)  # more often than the client tries
    impatient = "import time; time.sleep = lambda seconds: None" + UPLOAD
    told = refusal(client(impatient, folder, "{}"))
    assert "the connection to the Hub failed" in told
    assert "Run the command again" in told
    assert hub.repositories["model", "owner/model"].commit("main").oid == old
    hub.cut_uploads()
    oid(push())
    assert hub.files("owner/model")["model.safetensors"] == bytes(2_000_000)
