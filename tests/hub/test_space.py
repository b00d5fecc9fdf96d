"""`vanilla push --space` against a Hub on this machine."""

import json
import shutil
import tomllib
from types import SimpleNamespace

import pytest
import yaml
from hub_client import TOKENS, make_client
from local_hub import LocalHub
from packaging.requirements import Requirement
from project import ROOT

from vanilla_recipes.models.model_files import TOKENIZER_FILES

COMMAND = "import sys, vanilla_recipes.cli; sys.exit(vanilla_recipes.cli.main(sys.argv[1:]))"
COMMANDS = """
import json, sys, vanilla_recipes.cli
statuses = [vanilla_recipes.cli.main(words) for words in json.loads(sys.argv[1])]
print(json.dumps(statuses))
"""
APP = """
import runpy, sys, vanilla_recipes.cli
vanilla_recipes.cli.main = lambda words: print(*words)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
OTHER_APP = """
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("owner/other", repo_type="space", space_sdk="gradio")
api.upload_file(path_or_fileobj=b"print(1)", path_in_repo="app.py", repo_id="owner/other", repo_type="space")
"""
NAME = "owner/model"


@pytest.fixture(scope="module")
def model(saved_models):
    """What is pushed."""
    return saved_models["EncoderForSequenceClassification"]


@pytest.fixture(scope="module")
def pushed(model, tmp_path_factory):
    """A model and its Space on a Hub."""
    place = tmp_path_factory.mktemp("pushed")
    with LocalHub(place / "hub", TOKENS) as hub:
        client = make_client(hub, place)
        done = client(COMMAND, "push", model, NAME, "--space", "--license", "mit")
        assert done.returncode == 0, done.stderr
        yield SimpleNamespace(hub=hub, client=client, printed=done.stdout, place=place)


@pytest.fixture
def push(pushed, model):
    """Pushes the model with its Space by some commands, in one process; their statuses, and what came out."""

    def run(*commands: list[str]):
        done = pushed.client(COMMANDS, json.dumps([["push", str(model), *words, "--space"] for words in commands]))
        return json.loads(done.stdout.splitlines()[-1]), done

    return run


def test_the_space_stands_beside_the_model(pushed):
    assert pushed.printed.splitlines()[-2].startswith(f"pushed {pushed.hub.endpoint}/{NAME}/commit/")
    assert pushed.printed.splitlines()[-1] == f"pushed {pushed.hub.endpoint}/spaces/{NAME}"
    assert {"config.json", "model.safetensors"} <= pushed.hub.files(NAME).keys()
    files = pushed.hub.files(NAME, kind="space")
    assert files.keys() == {".gitattributes", "app.py", "requirements.txt", "README.md"}
    _, metadata, _ = files["README.md"].decode().split("---\n", 2)
    expected = {"title": "model", "sdk": "gradio", "app_file": "app.py", "license": "mit", "models": [NAME]}
    assert expected.items() <= yaml.safe_load(metadata).items()


def test_it_runs_the_tested_gradio_and_this_package(pushed):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    files = pushed.hub.files(NAME, kind="space")
    metadata = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert f"gradio=={metadata['sdk_version']}\n" in (ROOT / "constraints.txt").read_text()
    lines = files["requirements.txt"].decode().splitlines()
    (line,) = [line for line in lines if not line.startswith("#")]
    requirement = Requirement(line)
    assert (requirement.name, requirement.extras) == (project["name"], {"demo"})
    assert requirement.specifier.contains(project["version"])


def test_its_app_is_the_command(pushed, tmp_path):
    (tmp_path / "app.py").write_bytes(pushed.hub.files(NAME, kind="space")["app.py"])
    done = pushed.client(APP, tmp_path / "app.py")
    assert done.stdout.split() == ["demo", NAME, "--host", "0.0.0.0", "--port", "7860"], done.stderr


def test_it_can_be_pushed_again_and_in_private(pushed, push):
    statuses, done = push(["owner/secret", "--private"], ["owner/secret", "--private"], [NAME, "--private"])
    assert statuses == [0, 0, 1], done.stderr
    assert done.stdout.count("add HF_TOKEN to the secrets in its settings") == 2
    assert "exists and is public, so --private has no effect" in done.stderr
    assert pushed.hub.repositories["space", "owner/secret"].private


def test_a_try_sends_nothing(pushed, push):
    statuses, done = push(["owner/tried", "--dry-run"])
    assert statuses == [0], done.stderr
    assert "in 3 files; nothing was sent (--dry-run)" in done.stdout
    assert not any(name == "owner/tried" for _, name in pushed.hub.repositories)


def test_the_space_of_another_app_stays(pushed, push):
    assert pushed.client(OTHER_APP).returncode == 0
    statuses, done = push(["owner/other"])
    assert statuses == [1]
    assert "owner/other: a Space of this name exists with another app, which --space would" in done.stderr
    assert ("model", "owner/other") not in pushed.hub.repositories
    assert pushed.hub.files("owner/other", kind="space")["app.py"] == b"print(1)"
    assert push(["owner/other", "--overwrite"])[0] == [0]
    assert b"vanilla_recipes.cli" in pushed.hub.files("owner/other", kind="space")["app.py"]


REFUSALS = [
    ("EncoderForTokenClassification", [], "a VanillaEncoderForTokenClassification cannot be shown; an encoder-decoder"),
    ("maskless", [], "maskless: the tokenizer has no mask token; name it as mask_token in tokenizer_config.json"),
    (
        "bare",
        [],
        "bare: the tokenizer (tokenizer.json and tokenizer_config.json) is missing; save the tokenizer that the",
    ),
    ("EncoderForSequenceClassification", ["--create-pr"], "--space shows the model on the main branch; leave"),
    ("EncoderForSequenceClassification", ["--revision", "x"], "--space shows the model on the main branch; leave"),
]


def test_what_cannot_be_a_space_is_told_before_the_model_is_pushed(pushed, saved_models, tmp_path):
    for name in ("maskless", "bare"):
        shutil.copytree(saved_models["EncoderForMaskedLM"], tmp_path / name)
    settings = tmp_path / "maskless" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"mask_token": None}))
    for file in TOKENIZER_FILES:
        (tmp_path / "bare" / file).unlink()
    folders = saved_models | {name: tmp_path / name for name in ("maskless", "bare")}
    calls = [["push", str(folders[kind]), "owner/refused", "--space", *words] for kind, words, _ in REFUSALS]
    done = pushed.client(COMMANDS, json.dumps(calls))
    for line, (_, _, rule) in zip(done.stderr.splitlines(), REFUSALS, strict=True):
        assert rule in line
    assert not any(name == "owner/refused" for _, name in pushed.hub.repositories)
