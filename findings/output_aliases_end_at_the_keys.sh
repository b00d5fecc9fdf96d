#!/usr/bin/env bash
# In transformers 5.24 `"past_key_values" in outputs` is true and `"past_key_values" in outputs.keys()` is false: the old
# name of the cache works if code looks it up, and is missing if code lists or unpacks the entries of the output.
#
# Date: 2026-11-30. Versions: transformers 5.23.0 and 5.24.0, accelerate 1.15.0, torch 2.13.0, Python 3.11.
#
# A good guess: an output is an ordered dictionary. Where `in`, `[]`, `.get` and the attribute find a name, `dict(o)`
# and `{**o}` have it too. And a class that declares a field of that name itself keeps what it is given.
# What happens: the field is called `cache` since 5.24; the old name is an alias in the methods that look up one name.
# Iteration, `keys`, `dict`, `**`, the fields of the dataclass, the tree functions of torch and what comes out of
# `accelerate.utils.send_to_device` have the new name only. Two things go wrong without an error:
# * A loop that keeps its state in a plain dictionary of the outputs finds no cache there, and goes on from single
#   tokens without context. `{k: v for k, v in o.items() if k != "past_key_values"}` now keeps the cache it left out.
# * A class derived from a stock output that declares `past_key_values` again (to give it a type or a place) gets the
#   value in its items, and None when the attribute is read. (One derived from `ModelOutput` with that field cannot be
#   made by keyword any more: a TypeError about `cache`, a word that its author never wrote.)
# The old name as an argument brings a FutureWarning, the alias one log line a process: both say that the name is
# deprecated, so that it still works.
# Whom it hurts: decoding loops, servers and wrappers that turn outputs into dictionaries, filters for logging or
# gathering, and custom models with an output class of their own.
# Way around: take the cache out by attribute or `.get` before copying the rest; in a class of your own give the field
# the name of the installed release, and no field where the parent has one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0 accelerate==1.15.0
"$work/venv/bin/pip" install -qq --no-deps --target "$work/old" transformers==5.23.0

cat > "$work/check.py" <<'PY'
import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import accelerate
import torch
import transformers
from accelerate.utils import send_to_device
from torch.utils import _pytree as trees
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast, ModelOutput

NAME = "past_key_values"
old = transformers.__version__ == "5.23.0"
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                     num_attention_heads=4, bos_token_id=1, eos_token_id=None, pad_token_id=0)).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.normal_(0, 0.3)
prompt = torch.tensor([[5, 9, 17, 33]])
with torch.no_grad():
    outputs = model(prompt)

by_name = {
    "in": NAME in outputs,
    "[]": outputs[NAME] is not None,
    ".get": outputs.get(NAME) is not None,
    "attribute": outputs.past_key_values is not None,
}
copies = {
    "keys()": NAME in outputs.keys(),
    "dict()": NAME in dict(outputs),
    "{**o}": NAME in {**outputs},
    "dataclasses.fields": NAME in [field.name for field in dataclasses.fields(outputs)],
    "send_to_device, then keys": NAME in list(send_to_device(outputs, "cpu")),
    "torch's tree": any(NAME in str(path) for path, _ in trees.tree_flatten_with_path(outputs)[0]),
}
print(f"transformers {transformers.__version__}, accelerate {accelerate.__version__}, torch {torch.__version__}")
print("  found by name ", by_name)
print("  found in      ", copies)
left = [key for key in outputs if key != NAME]
print("  keys without past_key_values:", left)


def decode(state_of):
    """Greedy search that keeps its state in what `state_of` makes of the outputs."""
    ids, step, state = prompt, prompt, {}
    for _ in range(8):
        with torch.no_grad():
            state = state_of(model(step, past_key_values=state.get(NAME), use_cache=True))
        step = state["logits"][:, -1:].argmax(-1)
        ids = torch.cat([ids, step], dim=1)
    return ids[0, 4:].tolist()


@dataclass
class WithNotes(CausalLMOutputWithPast):
    past_key_values: Any = None
    notes: Any = None


@dataclass
class FromScratch(ModelOutput):
    logits: Any = None
    past_key_values: Any = None


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    kept, copied = decode(lambda o: o), decode(lambda o: {**o})
truth = model.generate(prompt, max_new_tokens=8, do_sample=False)[0, 4:].tolist()
own = WithNotes(logits=outputs.logits, past_key_values="the cache", notes="a note")
print("  generate                 ", truth)
print("  loop that keeps outputs  ", kept)
print("  loop that keeps a dict   ", copied)
print("  warnings:", sorted({str(w.message) for w in caught}))
print("  declared again:  o.past_key_values =", repr(own.past_key_values), "  o.get(...) =", repr(own.get(NAME)))
try:
    refused = None if FromScratch(logits=outputs.logits, past_key_values="the cache").past_key_values else "lost"
except TypeError as error:
    refused = str(error)
print("  a class from scratch:", refused or "keeps it")

assert all(by_name.values()) and kept == truth
if old:
    assert all(copies.values()) and copied == truth and own.past_key_values == "the cache" and left == ["logits"]
    assert refused is None
else:
    assert not any(copies.values()), "a copy knows the old name again"
    assert left == ["logits", "cache"]
    assert copied != truth, "the loop with a dictionary is right again"
    assert own.past_key_values is None and own.get(NAME) == "the cache", "the field declared again is read again"
    assert refused == "FromScratch.__init__() got an unexpected keyword argument 'cache'", refused
    assert {str(w.message).split(" and will")[0] for w in caught} == {"`past_key_values` is deprecated"}, caught
PY
PYTHONPATH="$work/old" "$work/venv/bin/python" "$work/check.py"
"$work/venv/bin/python" "$work/check.py"
