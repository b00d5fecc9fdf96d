"""Saves a tiny model of every class, and reads such folders, in a process with one release of transformers.

python saved_folders.py save FOLDER              a folder for each class, with its inputs
python saved_folders.py read FOLDER OUT          what the models there give, with this package
python saved_folders.py read-alone FOLDER OUT    the same without it, by the code in the folders
"""

import json
import sys
from pathlib import Path

ALONE = sys.argv[1:2] == ["read-alone"]
if ALONE:
    sys.modules["vanilla_transformers"] = None  # type: ignore[assignment]  # any import of it fails from here on

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

INPUTS = "inputs.json"
SEARCHES = {"greedy": {}, "beams": {"num_beams": 4}, "sampled": {"do_sample": True, "top_k": 0}}
NUM_TOKENS = 16  # more than a search takes through the modules
PROMPTS = [[7, 8, 9, 10, 11], [12, 13, 14, 15, 16], [21, 20, 19, 18, 17]]


def save(folder: Path) -> None:
    """Weights far apart, so that no search has to choose between tokens that are nearly as likely."""
    from tiny import MODELS, name_of, tiny_inputs, tiny_model

    for model_class in MODELS:
        model = tiny_model(model_class, initializer_range=0.5, norm_position="pre", tie_word_embeddings=False)
        model.save_pretrained(folder / name_of(model_class))
        inputs = {name: tensor.tolist() for name, tensor in tiny_inputs(model_class).items()}
        auto_map = model_class.config_class.family_auto_map
        own = next(auto for auto, path in auto_map.items() if path.endswith(f".{model_class.__name__}"))
        (folder / name_of(model_class) / INPUTS).write_text(json.dumps({"auto": own, "inputs": inputs}))


def read(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, list]]:
    """Outputs of each model, and the tokens that its searches find."""
    outputs, tokens = {}, {}
    for saved in sorted(path.parent for path in folder.glob(f"*/{INPUTS}")):
        told = json.loads((saved / INPUTS).read_text())
        options = {"trust_remote_code": True} if ALONE else {}
        model = getattr(transformers, told["auto"]).from_pretrained(saved, **options).eval()
        assert type(model).__module__.startswith("transformers_modules.") == ALONE, type(model)
        with torch.no_grad():
            found = model(**{name: torch.tensor(value) for name, value in told["inputs"].items()})[0]
        outputs[saved.name] = found.clone().contiguous()
        if model.can_generate():
            tokens[saved.name] = searched(model)
    return outputs, tokens


def searched(model) -> dict[str, list]:
    found = {}
    for name, settings in SEARCHES.items():
        torch.manual_seed(11)
        found[name] = model.generate(torch.tensor(PROMPTS), max_new_tokens=NUM_TOKENS, **settings).tolist()
    return found


def main() -> None:
    if not ALONE:
        import vanilla_transformers  # noqa: F401
    torch.set_num_threads(1)
    deed, folder, *out = sys.argv[1:]
    if deed == "save":
        save(Path(folder))
        return
    outputs, tokens = read(Path(folder))
    place = Path(out[0])
    place.mkdir(exist_ok=True)
    save_file(outputs, place / "outputs.safetensors")
    (place / "tokens.json").write_text(json.dumps({"release": transformers.__version__, "tokens": tokens}))


if __name__ == "__main__":
    main()
