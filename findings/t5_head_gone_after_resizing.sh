#!/usr/bin/env bash
# Adding a token to a T5 v1.1 or mT5 model discards its output layer: `resize_token_embeddings` replaces the layer with
# the input embeddings, in memory and in the saved model.
#
# Date: 2026-11-30. Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
#
# A good guess: these models have an output layer of their own. Their config.json says `tie_word_embeddings: false`,
# the file holds `lm_head.weight`, and it is loaded and works. A larger vocabulary then adds rows to both tables and
# leaves the logits of the old tokens as they were, as it does in a Llama with an output layer of its own.
# What happens: the configurations of the T5 family put `tie_word_embeddings` to true, whatever they are given. Loading
# notices that the two tables differ and keeps both (a log line says so, and to set `tie_word_embeddings=False`, which
# the file already does). Resizing ties by the configuration: the trained output layer is replaced by the input table.
# Even the size that the model has already does it. Nothing says so (the log speaks of new rows for the output layer),
# the logits are off by far, and `save_pretrained` writes one table. A new model made with `tie_word_embeddings=False`
# has no output layer of its own to begin with.
# Whom it hurts: who adds language, task or domain tokens before tuning mT5, T5 v1.1 or another model of that layout:
# training starts from a broken model, and the loss that is bad at first is laid to the new tokens.
# Way around: `model.config.tie_word_embeddings = False` after loading, before resizing. Then the head stays, and a
# saved folder loads as it was.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0 safetensors==0.8.0

cd "$work"
"$work/venv/bin/python" - <<'PY'
import json
import logging
import warnings

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, MT5Config, MT5ForConditionalGeneration
from transformers import T5Config, T5ForConditionalGeneration

lines = []


class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


transformers.logging.set_verbosity_warning()
transformers.logging.disable_progress_bar()
logging.getLogger("transformers").addHandler(Keep())
ids = torch.tensor([[5, 9, 17, 1]])


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=ids, decoder_input_ids=ids).logits


def apart(one, two):
    return (one[..., :64] - two[..., :64]).abs().max().item()


def own_head(folder, model):
    """Saves `model` in the layout of the published v1.1 folders: tables of their own for input and output."""
    model.save_pretrained(folder)
    weights = load_file(f"{folder}/model.safetensors")
    weights["lm_head.weight"] = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
    config = json.load(open(f"{folder}/config.json"))
    config["tie_word_embeddings"] = False
    config.pop("scale_decoder_outputs", None)
    json.dump(config, open(f"{folder}/config.json", "w"))


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
small = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
         "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "tie_word_embeddings": False}
for make, config in ((T5ForConditionalGeneration, T5Config), (MT5ForConditionalGeneration, MT5Config)):
    torch.manual_seed(0)
    new = make(config(**small))
    assert new.lm_head.weight is new.shared.weight, "a new model takes tie_word_embeddings=False at its word now"
    folder = make.__name__
    own_head(folder, new)
    lines.clear()
    model = make.from_pretrained(folder)
    right = logits(model)
    head = load_file(f"{folder}/model.safetensors")["lm_head.weight"]
    assert torch.equal(model.lm_head.weight, head) and not torch.equal(model.shared.weight, head)
    print(f"  {folder}: loaded with both tables; the file says tie_word_embeddings false, the model says"
          f" {model.config.tie_word_embeddings}")
    print(f"    log while loading: {' '.join(lines)}")
    assert model.config.tie_word_embeddings is True and len(lines) == 1 and "we will NOT tie them" in lines[0]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lines.clear()
        model.resize_token_embeddings(66)
    said = [str(w.message) for w in caught] + [line.split(" from a ")[0] for line in lines]
    resized = logits(model)
    model.save_pretrained("saved")
    kept = [key for key in load_file("saved/model.safetensors") if key in ("lm_head.weight", "shared.weight")]
    same = make.from_pretrained(folder)
    same.resize_token_embeddings(64)
    print(f"    largest logit {right.abs().max():.1f}; logits of the old tokens differ by {apart(resized, right):.1f} with"
          f" two more tokens, by {apart(logits(same), right):.1f} with the same number")
    print(f"    warnings and log while resizing: {said}; tables saved: {kept}")
    assert model.lm_head.weight is model.shared.weight, "resizing keeps the head now"
    assert apart(resized, right) > 1 and apart(logits(same), right) > 1
    assert all(line.startswith("The new ") for line in said), "something is said about it now"
    assert kept == ["shared.weight"]

    mended = make.from_pretrained(folder)
    mended.config.tie_word_embeddings = False
    mended.resize_token_embeddings(66)
    mended.save_pretrained("mended")
    assert apart(logits(mended), right) < 1e-4 and apart(logits(make.from_pretrained("mended")), right) < 1e-4
    print("    with config.tie_word_embeddings = False after loading: unchanged, before and after saving")

torch.manual_seed(0)
llama = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                                     num_attention_heads=2, tie_word_embeddings=False)).eval()
with torch.no_grad():
    right = llama(ids).logits
    llama.resize_token_embeddings(66)
    difference = apart(llama(ids).logits, right)
print(f"  {type(llama).__name__} with an output layer of its own: they differ by {difference:.1g}")
assert difference < 1e-4, "the expectation holds for Llama"
PY
