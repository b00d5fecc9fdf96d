"""What was saved under one release of transformers gives the same under another, with this package and without it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import transformers
from packaging.version import Version
from project import HELPERS, ROOT
from safetensors.torch import load_file
from saved_folders import SEARCHES
from tiny import MODELS, name_of

pytestmark = pytest.mark.slow

WORKER = HELPERS / "saved_folders.py"
TOLERANCE = dict(rtol=1e-5, atol=1e-5)
HERE_, THERE = "here", "there"
WAYS = [(saver, reader, way) for saver in (HERE_, THERE) for reader in (HERE_, THERE) for way in ("read", "read-alone")]


class Reading(NamedTuple):
    """What a process found in the folders.

    Attributes:
        release: of transformers in it.
        outputs: by class.
        tokens: by class and search.
    """

    release: str
    outputs: dict[str, torch.Tensor]
    tokens: dict[str, dict[str, list]]


def other_release() -> str:
    """The floor of pyproject.toml, or the tested release where the floor is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floor = next(
        re.search(r">=([\d.]+)", text)[1] for text in project["dependencies"] if text.startswith("transformers")
    )
    pinned = re.search(r"^transformers==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    installed = Version(transformers.__version__)
    return pinned[1] if installed.release[:2] == Version(floor).release[:2] else floor


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, str]:
    """What goes before the installed packages: nothing, or another release of transformers alone."""
    folder = tmp_path_factory.mktemp("other")
    wanted = f"transformers=={other_release()}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{wanted} cannot be had: {done.stderr.strip().splitlines()[-1]}")
    return {HERE_: "", THERE: str(folder)}


def run(path: str, cache: Path, *words: str) -> None:
    places = os.pathsep.join(filter(None, [path, str(HELPERS)]))
    environment = os.environ | {"PYTHONPATH": places, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, str(WORKER), *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def readings(paths, tmp_path_factory) -> dict[tuple[str, str, str], Reading]:
    place = tmp_path_factory.mktemp("readings")
    for saver, path in paths.items():
        run(path, place / "hf", "save", str(place / saver))
    found = {}
    for saver, reader, way in WAYS:
        name = f"{saver}-{reader}-{way}"
        run(paths[reader], place / f"hf-{name}", way, str(place / saver), str(place / name))
        report = json.loads((place / name / "tokens.json").read_text())
        outputs = load_file(place / name / "outputs.safetensors")
        found[saver, reader, way] = Reading(report["release"], outputs, report["tokens"])
    return found


def test_there_were_two_releases(readings):
    found = {reader: {Version(readings[key].release) for key in WAYS if key[1] == reader} for reader in (HERE_, THERE)}
    assert found == {HERE_: {Version(transformers.__version__)}, THERE: {Version(other_release())}}


@pytest.mark.parametrize("model_class", MODELS, ids=name_of)
@pytest.mark.parametrize(("saver", "reader", "way"), WAYS, ids="-".join)
def test_the_same_outputs_and_tokens(saver, reader, way, model_class, readings):
    name, found, expected = name_of(model_class), readings[saver, reader, way], readings[HERE_, HERE_, "read"]
    torch.testing.assert_close(found.outputs[name], expected.outputs[name], **TOLERANCE)
    assert found.tokens.get(name) == expected.tokens.get(name)
    if model_class.can_generate():
        assert len({json.dumps(tokens) for tokens in found.tokens[name].values()}) == len(SEARCHES)
