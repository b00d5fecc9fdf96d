"""Every head goes to the Hub and comes back by its name, in a process without the package."""

import json
import re
import subprocess
import sys

import torch
from local_hub import LocalHub
from safetensors.torch import load_file
from tiny import HEADS, name_of

from vanilla_recipes.models.model_folder import load_saved
from vanilla_recipes.publishing.fresh_process import READER, Subject, compare, questions
from vanilla_recipes.publishing.model_class import class_of
from vanilla_recipes.publishing.stock_copy import write_stock

UPLOAD = """
import sys
from pathlib import Path
from vanilla_recipes.publishing.upload import Target, upload
for folder, name in zip(sys.argv[1::2], sys.argv[2::2]):
    print(upload(Path(folder), Target(name), "push"))
"""


STOCK_TYPES = {"vanilla_encoder": "bert", "vanilla_decoder": "gpt2", "vanilla_seq2seq": "marian"}


def hub_name(name: str) -> str:
    return f"owner/{re.sub('(?<=[a-z])(?=[A-Z])', '-', name).lower()}"


def subjects(saved_models) -> list[Subject]:
    """All saved models, as they are loaded here."""
    torch.set_num_threads(1)
    found = []
    for name, folder in saved_models.items():
        model, tokenizer = load_saved(str(folder), None, class_of)
        found.append(Subject(name, folder, model.eval(), tokenizer))
    return found


def exported(subjects, place) -> list[Subject]:
    """The same models as classes of transformers' own."""
    found = []
    for subject in subjects:
        model_type = STOCK_TYPES[subject.model.config.model_type]
        folder = place / f"{subject.name}-{model_type}"
        stock, checks = write_stock(subject.model, subject.tokenizer, folder, model_type, lambda line: None)
        assert all(check.passed for check in checks), checks
        found.append(Subject(folder.name, folder, stock, subject.tokenizer))
    return found


def pushed(client, saved_models, **environment) -> None:
    words = [word for name, folder in saved_models.items() for word in (folder, hub_name(name))]
    done = client(UPLOAD, *words, **environment)
    assert done.returncode == 0, done.stderr


def asked(subjects, tmp_path, **changes) -> tuple[list, str]:
    """What the other process is asked of the models, by their names on the Hub, and the file that says so.

    One model of each family is loaded by every Auto class.
    """
    entries, families = [], set()
    for subject in subjects:
        entry, family = questions(subject), subject.model.config.model_type
        is_first = family not in families
        entries.append(
            entry | {"name": hub_name(subject.name)} | ({} if is_first else {"auto_names": [entry["own"]]}) | changes
        )
        families.add(family)
    manifest = {
        "models": entries,
        "threads": 1,
        "tensors": str(tmp_path / "outputs.safetensors"),
        "report": str(tmp_path / "report.json"),
    }
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(manifest))
    return entries, str(file)


def failed(subjects, entries, tmp_path) -> list:
    reports, tensors = json.loads((tmp_path / "report.json").read_text()), load_file(tmp_path / "outputs.safetensors")
    checks = []
    for number, (subject, entry, report) in enumerate(zip(subjects, entries, reports, strict=True)):
        found = {kind: tensors[f"{number}/{kind}"] for kind in entry["inputs"]}
        checks += compare(subject, entry, report, found)
    assert len(checks) > 5 * len(subjects)
    return [check for check in checks if not check.passed]


def test_all_heads_and_their_stock_classes_load_by_name_without_the_package(client, saved_models, tmp_path):
    heads = {name_of(model): saved_models[name_of(model)] for model in HEADS}
    assert len(heads) == 9
    models = subjects(heads)
    models += exported(models, tmp_path / "stock")
    pushed(client, {subject.name: subject.folder for subject in models})
    entries, manifest = asked(models, tmp_path)
    done = client(READER.read_text(), manifest, token=None, HF_HOME=str(tmp_path / "empty"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert failed(models, entries, tmp_path) == []


def test_four_processes_load_at_once_from_an_empty_cache(hub, client, saved_models, tmp_path):
    chosen = {"EncoderForMaskedLM": saved_models["EncoderForMaskedLM"]}
    pushed(client, chosen)
    models = subjects(chosen)
    started = []
    for number in range(4):
        place = tmp_path / str(number)
        place.mkdir()
        entries, manifest = asked(models, place, auto_names=["AutoModelForMaskedLM"], task=None)
        started.append(start(hub, tmp_path / "shared", manifest))
    for number, process in enumerate(started):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-3000:]
        assert failed(models, entries, tmp_path / str(number)) == []


def start(hub: LocalHub, cache, manifest: str) -> subprocess.Popen[str]:
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "PATH": ""}
    command = [sys.executable, "-P", str(READER), manifest]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def test_a_client_with_xet(tmp_path, saved_models, client_of):
    chosen = {"DecoderForCausalLM": saved_models["DecoderForCausalLM"]}
    with LocalHub(tmp_path / "xet", {"hf_owner_token": "owner"}, "regular") as hub:
        client = client_of(hub)
        pushed(client, chosen, HF_HUB_DISABLE_XET="0")
        models = subjects(chosen)
        entries, manifest = asked(models, tmp_path)
        done = client(READER.read_text(), manifest, HF_HUB_DISABLE_XET="0", HF_HOME=str(tmp_path / "empty"))
        assert done.returncode == 0, done.stderr[-3000:]
        assert failed(models, entries, tmp_path) == []
