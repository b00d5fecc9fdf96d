"""The code in a folder becomes that of this package, and nothing else changes, or nothing at all."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from project import FIXTURES
from transformers import BertConfig

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.saved_code import outdated
from vanilla_recipes.publishing import renewal
from vanilla_recipes.publishing.renewal import FAMILIES, installed_code, planned, renew
from vanilla_transformers.interop.checks import Check

OWN = {"train.py": "print('mine')", "README.md": "# Mine\n", ".gitattributes": "*.bin lfs\n"}


@pytest.fixture
def old(tmp_path, saved_models):
    """A folder of a version that had one file more, two less, another layers.py, and no token classifier."""
    folder = shutil.copytree(saved_models["DecoderForCausalLM"], tmp_path / "old")
    (folder / "older.py").write_text("ONE = 1\n")
    (folder / "layers.py").write_text("from .older import ONE\n" + (folder / "layers.py").read_text())
    for name in ("caches.py", "losses.py"):
        (folder / name).unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["auto_map"]["AutoModelForTokenClassification"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name, text in OWN.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def believed(monkeypatch):
    """Nothing is proved, which takes most of the time."""
    monkeypatch.setattr(renewal, "prove", lambda subject: [Check("model: output", "believed", passed=True)])


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def quiet(line: str) -> None:
    """Nobody reads it."""


@pytest.mark.parametrize("name", ["Seq2SeqModel", "EncoderForMaskedLM", "DecoderForCausalLM"])
def test_the_code_of_this_package_is_what_it_saves(saved_models, name):
    folder = saved_models[name]
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    code = installed_code(FAMILIES[model_type])
    assert {file.name: file.read_bytes() for file in folder.glob("*.py")} == {
        name: file.read_bytes() for name, file in code.items()
    }
    assert not planned(folder).is_needed


def test_old_code_is_replaced_and_proved_and_all_else_is_kept(old, saved_models):
    before, told = contents(old), []
    done = renew(old, tell=told.append)
    assert (done.renewed, done.added, done.removed) == (["layers.py"], ["caches.py", "losses.py"], ["older.py"])
    after, new = contents(old), contents(saved_models["DecoderForCausalLM"])
    assert after == new | {name: text.encode() for name, text in OWN.items()}
    assert {name for name in after if after[name] != before.get(name)} == {
        "layers.py", "caches.py", "losses.py", "config.json"
    }  # fmt: skip
    assert any("model: output, sentences" in line and "0.0e+00" in line for line in told)
    assert any("model: generated, sentences" in line for line in told)
    assert not renew(old, tell=pytest.fail).is_needed


def test_new_code_that_computes_something_else_is_not_put_in_place(old, tmp_path, monkeypatch):
    wrong = tmp_path / "feed_forward.py"
    code = installed_code(FAMILIES["vanilla_decoder"])
    wrong.write_text(
        code["feed_forward.py"].read_text().replace("return self.down_proj(", "return 2 * self.down_proj(")
    )
    monkeypatch.setattr(renewal, "installed_code", lambda family: code | {"feed_forward.py": wrong})
    before = contents(old)
    with pytest.raises(UserError, match=r"nothing was changed, because the new code fails: model: output, ran"):
        renew(old, tell=quiet)
    assert contents(old) == before


def test_a_check_that_fails_or_cannot_be_made_leaves_the_folder_as_it_was(old, monkeypatch):
    before = contents(old)
    monkeypatch.setattr(renewal, "prove", lambda subject: [Check("model: output", "0.3", passed=False)])
    with pytest.raises(UserError, match="nothing was changed, because the new code fails: model: output"):
        renew(old, tell=quiet)

    def fail(subject):
        raise UserError("it cannot be used")

    monkeypatch.setattr(renewal, "prove", fail)
    with pytest.raises(UserError, match="old: nothing was changed: with the new code it cannot be used"):
        renew(old, tell=quiet)
    assert contents(old) == before


@pytest.mark.usefixtures("believed")
@pytest.mark.parametrize("after", range(8))  # four files are written aside, then they take their places
def test_a_full_disk_at_any_moment_leaves_the_folder_as_it_was(old, monkeypatch, after):
    steps, before = iter(range(100)), contents(old)

    def until_full(deed):
        def tried(file, *arguments, **options):
            if next(steps) == after:
                raise OSError(28, "No space left on device", str(file))
            return deed(file, *arguments, **options)

        return tried

    monkeypatch.setattr(Path, "replace", until_full(Path.replace))
    monkeypatch.setattr(renewal, "_write", until_full(renewal._write))
    with pytest.raises(OSError, match="No space left"):
        renew(old, tell=quiet)
    assert contents(old) == before


@pytest.mark.usefixtures("believed")
def test_links_are_replaced_and_not_what_they_lead_to(old, tmp_path):
    blob = shutil.move(old / "layers.py", tmp_path / "blob")
    (old / "layers.py").symlink_to(blob)
    (old / "model.safetensors").rename(tmp_path / "weights")
    (old / "model.safetensors").symlink_to(tmp_path / "weights")
    text = blob.read_text()
    renew(old, tell=quiet)
    assert blob.read_text() == text
    assert not (old / "layers.py").is_symlink()
    assert (old / "model.safetensors").is_symlink()


def test_a_dry_run_only_tells(old):
    before = contents(old)
    done = renew(old, dry_run=True, tell=pytest.fail)
    assert (done.is_needed, done.changes_config, done.renewed) == (True, True, ["layers.py"])
    assert contents(old) == before


@pytest.mark.usefixtures("believed")
def test_the_code_of_a_tokenizer_stays(old):
    (old / "reader.py").write_text("from .older import ONE\nclass Reader: ...\n")
    config = json.loads((old / "tokenizer_config.json").read_text())
    (old / "tokenizer_config.json").write_text(json.dumps(config | {"auto_map": {"AutoTokenizer": ["reader.R", None]}}))
    assert renew(old, dry_run=True).removed == []


@pytest.mark.usefixtures("believed")
def test_the_models_of_a_run_can_be_named(old, tmp_path, saved_models):
    run = tmp_path / "run"
    run.mkdir()
    old.rename(run / "final")
    shutil.copytree(saved_models["DecoderForCausalLM"], run / "best")
    (run / "config.yaml").write_text("recipe: generation\n")
    (run / "results.json").write_text("{}")
    (run / "metrics.jsonl").write_text("")
    assert not renew(run, tell=quiet).is_needed
    assert renew(run, "final", tell=quiet).folder == run / "final"
    assert (run / "final" / "caches.py").is_file()


def set_in_config(**values):
    def spoil(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return spoil


def remove_code(folder):
    for file in folder.glob("*.py"):
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (shutil.rmtree, "old: there is no such folder; give the folder of a run"),
        (lambda folder: (folder / "config.json").unlink(), "it holds neither a run (config.yaml) nor a model"),
        (
            lambda folder: BertConfig().save_pretrained(folder),
            "its model_type is 'bert', which is none of this package",
        ),
        (remove_code, "the folder has no code to renew: this package loads the model with its own code"),
        (set_in_config(auto_map=None), "the folder has no code to renew"),
        (
            set_in_config(auto_map={"AutoConfig": "me/there--configuration_vanilla.VanillaDecoderConfig"}),
            "has no code to renew",
        ),
        (
            set_in_config(auto_map={"AutoModel": "modeling_decoder.VanillaDecoderModel", "AutoModelForX": "train.X"}),
            "config.json: auto_map names train.X, which this package does not have for a vanilla_decoder",
        ),
        (set_in_config(auto_map={"AutoModel": "layers.Mine"}), "auto_map names layers.Mine, which this package does"),
    ],
)
def test_what_cannot_be_renewed_is_refused(old, spoil, told):
    spoil(old)
    with pytest.raises(UserError) as error:
        renew(old, tell=quiet)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_ones_own_is_not_overwritten(old, tmp_path, monkeypatch):
    code = installed_code(FAMILIES["vanilla_decoder"])
    (tmp_path / "train.py").write_text("NEW = 1")
    monkeypatch.setattr(renewal, "installed_code", lambda family: code | {"train.py": tmp_path / "train.py"})
    with pytest.raises(UserError, match=r"the new code has files of the names train.py, .* move them elsewhere"):
        renew(old, tell=quiet)


def test_a_folder_in_the_place_of_a_file_is_not_touched(old):
    (old / "caches.py").mkdir()
    with pytest.raises(UserError, match=r"the new code has files of the names caches.py, but the files of these"):
        renew(old, tell=quiet)


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(old, monkeypatch):
    monkeypatch.setattr(renewal.os, "access", lambda folder, mode: False)
    with pytest.raises(UserError, match="old: cannot be written to; change its permissions, or renew a copy of it"):
        renew(old, tell=pytest.fail)


def test_code_that_knows_the_old_name_of_the_cache_alone(tmp_path):
    """A folder as it was saved by the last such code, without a tokenizer."""
    fixture = FIXTURES / "saved_by_ad1f842.zip"
    zipfile.ZipFile(fixture).extractall(tmp_path)
    folder, told = tmp_path / "saved" / "Seq2SeqForConditionalGeneration", []
    done = renew(folder, tell=told.append)
    assert {"attention.py", "generation.py", "stacks.py"} <= set(done.renewed)
    assert {"operations.py", "caches.py"} <= set(done.added)
    assert {"linear.py", "search.py", "varlen.py"} <= set(done.removed)
    assert not (folder / "search.py").exists()
    assert outdated(folder) is None
    assert any("model: generated, random" in line for line in told)
    assert not renew(folder, tell=pytest.fail).is_needed
