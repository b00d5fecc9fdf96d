"""Saves a tiny model of every class, or loads such folders. The tests run it with different releases of transformers.

python saved_folders.py save FOLDER              saves a folder for each class, with inputs for the model
python saved_folders.py read FOLDER OUT          loads the folders with this package and writes the models' outputs
python saved_folders.py read-alone FOLDER OUT    the same without this package, with the code in the folders
"""

import json
import sys
from pathlib import Path

ALONE = sys.argv[1:2] == ["read-alone"]
if ALONE:
    sys.modules["vanilla_transformers"] = None  # type: ignore[assignment]  # every import of it fails from here on

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

INPUTS = "inputs.json"
SEARCHES = {"greedy": {}, "beams": {"num_beams": 4}, "sampled": {"do_sample": True, "top_k": 0}}
NUM_TOKENS = 16  # enough that our fast search packs the weights
PROMPTS = [[7, 8, 9, 10, 11], [12, 13, 14, 15, 16], [21, 20, 19, 18, 17]]


def save(folder: Path) -> None:
    """Saves a model of every class.

    The weights have a large variance. So no two tokens are almost equally likely, and rounding changes no search.
    """
    from tiny import MODELS, name_of, tiny_inputs, tiny_model

    for model_class in MODELS:
        model = tiny_model(model_class, initializer_range=0.5, norm_position="pre", tie_word_embeddings=False)
        model.save_pretrained(folder / name_of(model_class))
        inputs = {name: tensor.tolist() for name, tensor in tiny_inputs(model_class).items()}
        auto_map = model_class.config_class.family_auto_map
        own = next(auto for auto, path in auto_map.items() if path.endswith(f".{model_class.__name__}"))
        (folder / name_of(model_class) / INPUTS).write_text(json.dumps({"auto": own, "inputs": inputs}))


def read(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, list]]:
    """Returns the output of each model and the tokens of its searches."""
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
