"""Folders that earlier code has saved keep loading, and give what they gave then.

`tests/fixtures/saved_by_ad1f842.zip` comes from the last code that knew the cache as `past_key_values` alone, under
transformers 5.23.0; `saved_under_5.24.zip` from the first one that knew both names. Each holds folders as `python
saved_folders.py save` writes them, and what `read` found in them then.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from project import FIXTURES, HELPERS
from safetensors.torch import load_file

from vanilla_recipes.models.saved_code import outdated
from vanilla_transformers.model.caches import CACHE

SAVED = sorted(FIXTURES.glob("*.zip"))
OLD, NEW = "saved_by_ad1f842", "saved_under_5.24"
TOLERANCE = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    found = {fixture.stem: tmp_path_factory.mktemp(fixture.stem) for fixture in SAVED}
    for fixture in SAVED:
        zipfile.ZipFile(fixture).extractall(found[fixture.stem])
    return found


def read(folder: Path, way: str) -> tuple[dict[str, torch.Tensor], dict]:
    """What another process finds in the folders now."""
    environment = os.environ | {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(HELPERS / "saved_folders.py"), way, str(folder / "saved"), str(folder / way)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / way / "outputs.safetensors"), tokens_in(folder / way)


def tokens_in(folder: Path) -> dict:
    return json.loads((folder / "tokens.json").read_text())["tokens"]


# Without this package the old code generates nonsense under transformers 5.24: `vanilla update` is for that.
@pytest.mark.parametrize(("name", "way"), [(OLD, "read"), (NEW, "read"), (NEW, "read-alone")])
def test_they_give_what_they_gave(name, way, folders):
    outputs, tokens = read(folders[name], way)
    expected = load_file(folders[name] / "expected" / "outputs.safetensors")
    assert set(outputs) == {folder.name for folder in (folders[name] / "saved").iterdir()}
    for model, found in outputs.items():
        torch.testing.assert_close(found, expected[model], **TOLERANCE)
    told = tokens_in(folders[name] / "expected")
    assert tokens == {model: told[model] for model in tokens}
    assert len(tokens) == 2


def test_old_code_is_told_where_it_would_break(folders):
    for folder in (folders[OLD] / "saved").iterdir():
        generates = folder.name != "EncoderForMaskedLM"
        assert (outdated(folder) is not None) == (generates and CACHE == "cache")
    assert all(outdated(folder) is None for folder in (folders[NEW] / "saved").iterdir())
