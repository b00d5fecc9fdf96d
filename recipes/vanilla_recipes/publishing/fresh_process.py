"""Checks that a new process, without this package, loads a saved folder and computes the outputs of the saved model."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers import PreTrainedModel

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.stock import classes_of
from vanilla_transformers.fast import unplugged
from vanilla_transformers.interop.checks import Check, difference_check, tokens_check
from vanilla_transformers.interop.comparison import SENTENCES, all_inputs
from vanilla_transformers.model.configuration_base import VanillaConfig

READER = Path(__file__).with_name("reader.py")
_NEW_TOKENS = 12
_TOLERANCE = 1e-5  # largest allowed difference of outputs; older saved code may sum in another order
TASKS = {
    "AutoModelForSeq2SeqLM": "translation",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMultipleChoice": "multiple-choice",
    "AutoModel": "feature-extraction",
}
"""Auto class -> name on the Hub of the task of the class."""

_PIPELINES = ("text-generation", "fill-mask", "text-classification", "token-classification")
"""Tasks for which transformers has a pipeline that takes a single text."""


@dataclass(frozen=True)
class Subject:
    """A folder to check.

    Attributes:
        name: name of the model in the table of checks.
        folder: the folder that the fresh process loads.
        model: the expected model, in evaluation mode and fp32, on the CPU.
        tokenizer: the expected tokenizer, or `None`.
    """

    name: str
    folder: Path
    model: PreTrainedModel
    tokenizer: Any

    @property
    def is_ours(self) -> bool:
        """Whether the model's class belongs to this package, so that the folder contains its code."""
        return isinstance(self.model.config, VanillaConfig)


def auto_names(model: PreTrainedModel) -> tuple[str, list[str]]:
    """Returns the Auto class that loads the model's class, and all Auto classes that load its configuration, by name.

    Raises:
        UserError: If no Auto class loads the model's class.
    """
    config = model.config
    if isinstance(config, VanillaConfig):
        names = {name: path.rsplit(".", 1)[1] for name, path in config.family_auto_map.items() if name != "AutoConfig"}
    else:
        mappings = {name: classes_of(name) for name in TASKS}
        found = {name: mapping[type(config)] for name, mapping in mappings.items() if type(config) in mapping}
        names = {name: (each[0] if isinstance(each, tuple) else each).__name__ for name, each in found.items()}
        # A model of transformers is checked with `AutoModel` and with the Auto class that loads its class. The class of
        # another task may have a parameter with the same name and another shape, so the weights would not load.
        names = {name: each for name, each in names.items() if each == type(model).__name__ or name == "AutoModel"}
    own = next((name for name, class_name in names.items() if class_name == type(model).__name__), None)
    if own is None:
        raise UserError(
            f"no Auto class of transformers loads a {type(model).__name__}, so nobody could load it by name"
        )
    return own, list(names)


def prove(*subjects: Subject) -> list[Check]:
    """Loads every folder in one fresh process with an empty cache, and compares the results with the expected models.

    Raises:
        UserError: If the process failed. The message has the last line of its standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        entries = [questions(subject) for subject in subjects]
        reports, tensors = _read_elsewhere(entries, Path(folder))
        checks = []
        for number, (subject, entry, report) in enumerate(zip(subjects, entries, reports, strict=True)):
            found = {kind: tensors[f"{number}/{kind}"] for kind in entry["inputs"]}
            with unplugged():
                checks += compare(subject, entry, report, found)
    return checks


def questions(subject: Subject) -> dict[str, Any]:
    """Returns the request to the fresh process about a model, as JSON values: inputs to run and classes to load."""
    own, names = auto_names(subject.model)
    model, tokenizer = subject.model, subject.tokenizer
    task = TASKS[own] if tokenizer is not None and TASKS[own] in _PIPELINES else None
    if task == "fill-mask" and tokenizer.mask_token is None:
        task = None
    text = SENTENCES[0] if task != "fill-mask" else f"{SENTENCES[0]} {tokenizer.mask_token}"
    inputs = {
        kind: {name: tensor.tolist() for name, tensor in each.items()} for kind, each in all_inputs(model, tokenizer)
    }
    if own == "AutoModelForMultipleChoice":
        inputs = {kind: {name: [[row] for row in rows] for name, rows in each.items()} for kind, each in inputs.items()}
    num_positions = getattr(model.config, "max_position_embeddings", None) or _NEW_TOKENS * 4
    return {
        "name": str(subject.folder),
        "options": {"trust_remote_code": subject.is_ours},
        "auto_names": names,
        "own": own,
        "inputs": inputs,
        "prompts": {kind: _prompt(model, each) for kind, each in inputs.items()} if model.can_generate() else {},
        "generation": {"max_new_tokens": max(1, min(_NEW_TOKENS, num_positions // 4)), "do_sample": False},
        "sentences": [] if tokenizer is None else list(SENTENCES),
        "task": task,
        "pipeline_text": text,
    }


def _prompt(model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns the first row without its padding, as a prompt for `generate`."""
    length = sum(inputs["attention_mask"][0])
    return {name: [inputs[name][0][:length]] for name in ("input_ids", "attention_mask")}


def _read_elsewhere(
    entries: list[dict[str, Any]], folder: Path
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    manifest = {
        "models": entries,
        "threads": torch.get_num_threads(),
        "tensors": str(folder / "outputs.safetensors"),
        "report": str(folder / "report.json"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run(
        [sys.executable, "-P", str(READER), str(folder / "manifest.json")],
        env=inherited | {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"it cannot be used in a fresh process without this package: {lines[-1]}")
    return json.loads((folder / "report.json").read_text(encoding="utf-8")), load_file(folder / "outputs.safetensors")


def compare(
    subject: Subject, entry: dict[str, Any], report: dict[str, Any], found: dict[str, torch.Tensor]
) -> list[Check]:
    model, tokenizer, own, title = subject.model, subject.tokenizer, entry["own"], subject.name
    lacking = [*report["missing"][own], *report["unexpected"]]
    names = ["AutoConfig", *report["missing"], *(["AutoTokenizer"] if "ids" in report else [])]
    checks = [
        Check(f"{title}: loaded by", ", ".join(names), passed=set(entry["auto_names"]) == set(report["missing"])),
        Check(f"{title}: weights of {report['class']}", _listed(lacking), passed=not lacking),
    ]
    if subject.is_ours:
        is_remote = report["module"].startswith("transformers_modules.")
        checks.append(Check(f"{title}: code", "its own" if is_remote else report["module"], passed=is_remote))
    tolerance = _TOLERANCE if subject.is_ours else 0.0
    with torch.inference_mode():
        for kind, inputs in entry["inputs"].items():
            output = model(**_as_tensors(inputs))[0]
            checks.append(difference_check(f"{title}: output, {kind}", found[kind], output, tolerance))
        for kind, prompt in entry["prompts"].items():
            mine = model.generate(**_as_tensors(prompt), **entry["generation"]).tolist()
            checks.append(tokens_check(f"{title}: generated, {kind}", report["tokens"][kind], mine))
    if "ids" in report:
        ids = tokenizer(entry["sentences"])["input_ids"]
        checks.append(tokens_check(f"{title}: tokenizer", report["ids"], ids))
    if entry["task"] is not None:
        checks.append(_pipeline_check(subject, entry, report["pipeline"]))
    return checks


def _as_tensors(values: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def _pipeline_check(subject: Subject, entry: dict[str, Any], found: Any) -> Check:
    pipeline: Any = transformers.pipeline
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        ready = pipeline(entry["task"], model=subject.model, tokenizer=subject.tokenizer, device="cpu")
        mine = ready(entry["pipeline_text"], **(entry["generation"] if entry["task"] == "text-generation" else {}))
    is_equal = _rounded(mine) == _rounded(found)
    return Check(f"{subject.name}: pipeline", entry["task"] if is_equal else f"{entry['task']} differs", is_equal)


def _rounded(value: Any) -> Any:
    """Rounds all floats to 6 digits, because the values of the fresh process were written to JSON and read back."""
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return round(float(value), 6) if isinstance(value, float) or hasattr(value, "dtype") else value


def _listed(names: list[str]) -> str:
    return "complete" if not names else f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''} do not fit"
