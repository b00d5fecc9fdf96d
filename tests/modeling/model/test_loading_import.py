"""Importing the package is quiet, and costs little more than importing transformers."""

import json
import subprocess
import sys

MEASURE = """
import json, sys, time
import transformers
from transformers import GenerationMixin, PreTrainedModel
from transformers.models.auto import modeling_auto
before = time.process_time()
import vanilla_transformers
print(json.dumps({"seconds": time.process_time() - before, "modules": sorted(sys.modules)}))
"""


def test_import_is_quiet_quick_and_brings_no_recipe():
    done = subprocess.run([sys.executable, "-W", "error", "-c", MEASURE], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["seconds"] < 1.0
    assert "vanilla_transformers.model.modeling_decoder" in found["modules"]
    assert not any(name.startswith("vanilla_recipes") for name in found["modules"])
