"""Which files are the code of a model folder, and which code must be renewed."""

import json
import logging
import shutil
import zipfile

import pytest
from project import FIXTURES
from transformers import BertConfig, BertForMaskedLM

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.model_folder import load_saved
from vanilla_recipes.models.saved_code import outdated, saved_code
from vanilla_recipes.publishing.model_class import class_of
from vanilla_recipes.publishing.publication import publish
from vanilla_transformers.model import caches

CODE = {
    "model.py": "import os\nfrom . import parts, words as others\nfrom .blocks import Block\nfrom ..far import away\n",
    "blocks.py": "if TYPE_CHECKING:\n    from .types import Shape\ndef late():\n    from .model import Model\n",
    "parts.py": "from torch import nn\nfrom deep.inside import thing\n",
    "words.py": "import json",
    "types.py": "def (",
    "reader.py": "from .words import split",
    "train.py": "from .model import Model",
    "parts.txt": "",
}
OUTDATED = ("DecoderForCausalLM", "Seq2SeqForConditionalGeneration")
NOT_AFFECTED = ("EncoderForMaskedLM", "DecoderForSequenceClassification")


def write(folder, code, model, tokenizer=None):
    for name, text in code.items():
        (folder / name).write_text(text)
    (folder / "config.json").write_text(json.dumps({"auto_map": model}))
    if tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": tokenizer}))


def test_code_is_what_the_configurations_name_and_what_that_imports(tmp_path):
    write(tmp_path, CODE, {"AutoModel": "model.Model", "AutoConfig": "me/other--far.Config"})
    code = saved_code(tmp_path)
    assert code.files == {"model.py", "parts.py", "words.py", "blocks.py", "types.py"}
    assert code.missing == {}


@pytest.mark.parametrize("named", [{"AutoTokenizer": ["reader.Slow", None]}, [None, "reader.Fast"]])
def test_a_tokenizer_may_have_code_too(tmp_path, named):
    write(tmp_path, CODE, None, named)
    assert saved_code(tmp_path).files == {"reader.py", "words.py"}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"auto_map": 3}'])
def test_a_configuration_may_name_no_code(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert saved_code(tmp_path) == (frozenset(), {})


def test_what_is_missing_is_named_with_what_asks_for_it(tmp_path):
    write(tmp_path, CODE, {"AutoModel": "model.Model", "AutoConfig": "../../config.Config"})
    (tmp_path / "blocks.py").write_text("from .deep.inside import thing\nfrom .gone import other")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "inside.py").write_text("")
    (tmp_path / "words.py").unlink()
    assert saved_code(tmp_path).missing == {
        "../../config.py": "config.json",
        "deep/inside.py": "blocks.py",
        "gone.py": "blocks.py",
        "words.py": "model.py",
    }


@pytest.fixture
def newer_transformers(monkeypatch):
    """A transformers that calls the cache `cache`, whichever is installed."""
    monkeypatch.setattr(caches, "CACHE", "cache")


@pytest.fixture
def older(saved_models, tmp_path):
    """A copy of a saved model whose code knows the old name of the cache alone."""

    def copy(name):
        folder = shutil.copytree(saved_models[name], tmp_path / name)
        (folder / "caches.py").unlink()
        return folder

    return copy


@pytest.mark.usefixtures("newer_transformers")
@pytest.mark.parametrize("name", OUTDATED)
def test_code_without_the_name_of_the_cache_is_told_once(older, saved_models, name, caplog):
    assert outdated(saved_models[name]) is None
    folder = older(name)
    with caplog.at_level(logging.WARNING, "vanilla_transformers"):
        for _ in range(2):
            load_saved(str(folder), None, class_of)
    [line] = [record.getMessage() for record in caplog.records if "older than this package" in record.getMessage()]
    assert line.startswith(f"{folder}: the code in it is older than this package, without which it generates nonsense")
    assert line.endswith(f"; renew it with `vanilla update {folder}`")


@pytest.mark.usefixtures("newer_transformers")
@pytest.mark.parametrize("name", NOT_AFFECTED)
def test_models_that_do_not_generate_need_no_cache(older, name):
    assert outdated(older(name)) is None


@pytest.mark.usefixtures("newer_transformers")
def test_folders_without_code_have_none_that_is_outdated(older, tmp_path):
    folder = older("DecoderForCausalLM")
    for file in folder.glob("*.py"):
        file.unlink()
    assert outdated(folder) is None
    BertForMaskedLM(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1)).save_pretrained(tmp_path)
    assert outdated(tmp_path) is None


@pytest.mark.usefixtures("newer_transformers")
def test_a_file_that_older_code_does_not_import_tells_nothing(tmp_path):
    """An older version that saves into a newer folder leaves it there."""
    fixture = FIXTURES / "saved_by_ad1f842.zip"
    zipfile.ZipFile(fixture).extractall(tmp_path)
    folder = tmp_path / "saved" / "DecoderForCausalLM"
    assert outdated(folder) is not None
    (folder / "caches.py").write_text("NAMES = ()\n")
    assert outdated(folder) is not None


@pytest.mark.usefixtures("newer_transformers")
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"architectures": null}'])
def test_a_damaged_configuration_is_told_elsewhere(older, text):
    folder = older("DecoderForCausalLM")
    (folder / "config.json").write_text(text)
    assert outdated(folder) is None


def test_an_older_transformers_runs_older_code(older, monkeypatch):
    monkeypatch.setattr(caches, "CACHE", "past_key_values")
    assert outdated(older("DecoderForCausalLM")) is None


@pytest.mark.usefixtures("newer_transformers")
def test_code_that_must_be_renewed_is_not_pushed(older):
    folder = older("DecoderForCausalLM")
    with pytest.raises(UserError, match=r"renew it with `vanilla update .*`, and push again$"):
        publish(folder, "owner/model", dry_run=True)
    with pytest.raises(UserError, match="cannot become a bert"):  # a stock class takes no code along
        publish(folder, "owner/model", to="bert", dry_run=True)
