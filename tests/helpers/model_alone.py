"""`python model_alone.py FOLDER OUT`: trains, saves, loads and generates with the copy of `model/` in FOLDER.

Neither of our packages can be imported in this process. Writes the losses and tokens of each language model to OUT, as
JSON.
"""

import importlib
import json
import sys
from pathlib import Path

for name in ("vanilla_transformers", "vanilla_recipes"):
    sys.modules[name] = None  # type: ignore[assignment]  # every import of it fails from here on

import torch  # noqa: E402

SIZES = {
    "vocab_size": 67, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 37, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
CLASSES = {
    "modeling_seq2seq": ("VanillaSeq2SeqForConditionalGeneration", {"encoder_layers": 2, "decoder_layers": 2}),
    "modeling_encoder": ("VanillaEncoderForMaskedLM", {"num_hidden_layers": 2}),
    "modeling_decoder": ("VanillaDecoderForCausalLM", {"num_hidden_layers": 2}),
}


def use(module: str, name: str, layers: dict[str, int], out: Path) -> dict[str, list]:
    """Returns two losses, the second after a step, saving and loading, and the tokens of three searches."""
    model_class = getattr(importlib.import_module(f"model.{module}"), name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**SIZES, **layers)).train()
    ids = torch.randint(5, 67, (3, 6))
    batch = {"input_ids": ids, "labels": ids}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = [model(**batch).loss]
    losses[0].backward()
    optimizer.step()
    model.save_pretrained(out.parent / name)
    loaded = model_class.from_pretrained(out.parent / name).eval()
    losses.append(loaded(**batch).loss)
    report = {"losses": [float(loss.detach()) for loss in losses], "tokens": []}
    for settings in ({}, {"num_beams": 3}, {"do_sample": True}) if loaded.can_generate() else ():
        report["tokens"].append(loaded.generate(ids, max_new_tokens=12, **settings).tolist())
    return report


def main() -> None:
    folder, out = map(Path, sys.argv[1:])
    sys.path.insert(0, str(folder))
    torch.set_num_threads(1)
    out.write_text(json.dumps({name: use(module, name, layers, out) for module, (name, layers) in CLASSES.items()}))


if __name__ == "__main__":
    main()
