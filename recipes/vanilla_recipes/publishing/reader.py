"""Loads models in a process without this package, as a user who downloads them does, and writes a report.

`fresh_process.py` runs it as `python -P reader.py MANIFEST.json`.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.modules["vanilla_transformers"] = None  # type: ignore[assignment]  # every import of the package now fails

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def read_model(entry: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Loads a model with every Auto class, and runs it on the inputs of the manifest.

    Args:
        entry: entry of the manifest: name, loading options, Auto classes, inputs (see `fresh_process.questions`).

    Returns:
        The report (classes, missing weights, tokens, pipeline result), and the output tensors by kind of input.
    """
    name, options = entry["name"], entry["options"]
    report: dict[str, Any] = {"missing": {}}
    for auto_name in entry["auto_names"]:
        auto_class = getattr(transformers, auto_name)
        model, info = auto_class.from_pretrained(name, output_loading_info=True, dtype=torch.float32, **options)
        report["missing"][auto_name] = sorted(map(str, info["missing_keys"]))
        if auto_name == entry["own"]:
            report["unexpected"] = sorted(map(str, info["unexpected_keys"]))
            own = model.eval()
    report["class"], report["module"] = type(own).__name__, type(own).__module__
    outputs = {}
    with torch.inference_mode():
        for kind, inputs in entry["inputs"].items():
            outputs[kind] = own(**as_tensors(inputs))[0].clone().contiguous()
        report["tokens"] = {
            kind: own.generate(**as_tensors(prompt), **entry["generation"]).tolist()
            for kind, prompt in entry["prompts"].items()
        }
    if entry["sentences"]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
        report["ids"] = tokenizer(entry["sentences"])["input_ids"]
    if entry["task"] is not None:
        pipeline: Any = transformers.pipeline
        ready = pipeline(entry["task"], model=name, device="cpu", dtype=torch.float32, **options)
        report["pipeline"] = ready(
            entry["pipeline_text"], **(entry["generation"] if entry["task"] == "text-generation" else {})
        )
    return report, outputs


def as_tensors(values: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def main() -> None:
    manifest = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(manifest["threads"])
    reports = []
    tensors: dict[str, torch.Tensor] = {}
    for number, entry in enumerate(manifest["models"]):
        report, outputs = read_model(entry)
        reports.append(report)
        tensors |= {f"{number}/{kind}": output for kind, output in outputs.items()}
    save_file(tensors, manifest["tensors"])
    Path(manifest["report"]).write_text(json.dumps(reports, default=float), encoding="utf-8")


if __name__ == "__main__":
    main()
