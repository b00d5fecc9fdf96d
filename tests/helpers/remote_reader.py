"""Loads saved folders in a process that cannot import the package, and writes the outputs to files.

Run by `test_remote_code.py` as `python remote_reader.py MANIFEST.json`.
"""

import json
import sys
from pathlib import Path

sys.modules["vanilla_transformers"] = None  # type: ignore[assignment]  # every import of it fails from here on

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def package_is_importable() -> bool:
    try:
        import vanilla_transformers  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def outputs(auto_class, folder: str, inputs: dict) -> tuple[dict[str, torch.Tensor], dict]:
    """Returns the logits (or hidden states) of a model, the hidden states of its base model, and the loading info."""
    model, info = auto_class.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    model = model.eval()
    base_inputs = {name: value.reshape(-1, value.shape[-1]) for name, value in inputs.items()}
    with torch.no_grad():
        found = {"own": model(**inputs)[0], "base": model.base_model(**base_inputs)[0]}
    return {name: value.clone().contiguous() for name, value in found.items()}, info


def read_folder(entry: dict) -> tuple[dict[str, torch.Tensor], dict]:
    tensors, report = {}, {}
    for auto_name in entry["auto_names"]:
        inputs = {name: torch.tensor(value) for name, value in entry["inputs"][auto_name].items()}
        found, info = outputs(getattr(transformers, auto_name), entry["folder"], inputs)
        tensors |= {f"{auto_name}.{name}": value for name, value in found.items()}
        report[auto_name] = {name: sorted(map(str, keys)) for name, keys in info.items() if keys}
    return tensors, report


def generated(auto_class, folder: str, source: list) -> list:
    model = auto_class.from_pretrained(folder, trust_remote_code=True)
    return model.generate(torch.tensor(source), max_new_tokens=6, num_beams=3).tolist()


def read_pipeline(task: str, folder: str, text: str):
    return transformers.pipeline(task, model=folder, trust_remote_code=True, device="cpu")(text)


def main() -> None:
    manifest = json.loads(Path(sys.argv[1]).read_text())
    tensors, report = (
        {},
        {"package": package_is_importable(), "cache": transformers.dynamic_module_utils.HF_MODULES_CACHE},
    )
    for name, entry in manifest["folders"].items():
        found, report[name] = read_folder(entry)
        tensors |= {f"{name}.{key}": value for key, value in found.items()}
        report[name]["tokens"] = transformers.AutoTokenizer.from_pretrained(entry["folder"])("w7 w8")["input_ids"]
    report["pipelines"] = {task: read_pipeline(task, **entry) for task, entry in manifest["pipelines"].items()}
    report["generated"] = {
        name: generated(getattr(transformers, auto_name), manifest["folders"][name]["folder"], manifest["source"])
        for name, auto_name in manifest["generators"].items()
    }
    model = transformers.AutoModelForCausalLM.from_pretrained(
        manifest["folders"]["DecoderForCausalLM"]["folder"], trust_remote_code=True
    )
    model.save_pretrained(manifest["saved_again"])
    save_file(tensors, manifest["tensors"])
    Path(manifest["report"]).write_text(json.dumps(report, default=str))


if __name__ == "__main__":
    main()
