"""Importing the package is quiet, and costs little more than importing transformers."""

import json
import subprocess
import sys

MEASURE = """
import json, time
import transformers
from transformers import GenerationMixin, PreTrainedModel
from transformers.models.auto import modeling_auto
before = time.process_time()
import vanilla_transformers
print(json.dumps({"seconds": time.process_time() - before, "modules": sorted(__import__("sys").modules)}))
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def test_import_prints_and_warns_nothing():
    done = run("-W", "error", "-c", "import vanilla_transformers")
    assert done.stdout == done.stderr == ""


def test_import_adds_little_to_that_of_transformers():
    found = json.loads(run("-c", MEASURE).stdout)
    assert found["seconds"] < 1.0
    loaded = {name for name in found["modules"] if name.startswith("vanilla_transformers.")}
    assert not any(name.startswith("vanilla_transformers.recipes") for name in loaded)
