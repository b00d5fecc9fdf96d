#!/usr/bin/env bash
# A decoder of your own that generated well under transformers 5.23 generates other text under 5.24, and nothing fails.
#
# Date: 2026-11-30. Versions: transformers 5.23.0 and 5.24.0, torch 2.13.0, Python 3.11.
#
# A good guess: a minor release keeps the name by which `generate` hands the cache to a model. If the name had to go,
# a model that does not know the new one would get an error, since generate checks the arguments of `forward`.
# What happens: 5.24 passes the cache as `cache`. A forward with `past_key_values` and `**kwargs`, the form that the
# library's own models had until then, swallows it. The model sees no past, but generate counts on it and gives it
# only the newest token. So from the second new token on each one is chosen from a single token without any context.
# No warning comes. One log line a process says that a field of the OUTPUT has a new name; it comes from a plain
# forward pass as well, where all is right. So the loss stays right too.
# Whom it hurts: everyone with a model class outside the library, and every reader of a model folder that carries its
# own code. Such a folder was right when it was published and is wrong now, for all who update.
# Way around: `generate(use_cache=False)` is right, and slower. In the model: accept both names (take `cache` out of
# the kwargs where `past_key_values` is None), or pin transformers below 5.24.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0
"$work/venv/bin/pip" install -qq --no-deps --target "$work/old" transformers==5.23.0

cat > "$work/check.py" <<'PY'
import logging
import sys
import warnings

import torch
import transformers
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class TinyConfig(PreTrainedConfig):
    model_type = "tiny_decoder"
    vocab_size: int = 50
    hidden_size: int = 32
    num_hidden_layers: int = 2
    num_attention_heads: int = 4


class TinyLayer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.index, self.heads = index, config.num_attention_heads
        self.norm = nn.LayerNorm(config.hidden_size)
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden, past):
        batch, length, size = hidden.shape
        query, key, value = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm(hidden)).chunk(3, -1)
        )
        if past is not None:
            key, value = past.update(key, value, self.index)
        allowed = torch.ones(length, key.shape[2], dtype=torch.bool).tril(key.shape[2] - length)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return hidden + self.out(mixed.transpose(1, 2).reshape(batch, length, size))


class TinyForCausalLM(PreTrainedModel, GenerationMixin):
    config: TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.places = nn.Embedding(64, config.hidden_size)
        self.layers = nn.ModuleList(TinyLayer(config, i) for i in range(config.num_hidden_layers))
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=None, **kwargs):
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        hidden = self.tokens(input_ids) + self.places(torch.arange(seen, seen + input_ids.shape[1]))
        for layer in self.layers:
            hidden = layer(hidden, past_key_values)
        return CausalLMOutputWithPast(logits=self.head(hidden), past_key_values=past_key_values)


class BothNames(TinyForCausalLM):
    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=None, **kwargs):
        cache = kwargs.pop("cache", None) if past_key_values is None else past_key_values
        return super().forward(input_ids, attention_mask, cache, use_cache, **kwargs)


lines = []


class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


transformers.logging.set_verbosity_warning()
logging.getLogger("transformers").addHandler(Keep())
torch.manual_seed(5)
model = TinyForCausalLM(TinyConfig(bos_token_id=None, eos_token_id=None, pad_token_id=0)).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.normal_(0, 0.4)
prompt = torch.tensor([[7, 21, 3, 40, 11]])

truth = prompt
for _ in range(10):
    with torch.no_grad():
        truth = torch.cat([truth, model(truth).logits[:, -1:].argmax(-1)], dim=1)

lines_before = list(lines)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    cached = model.generate(prompt, max_new_tokens=10, do_sample=False)
    uncached = model.generate(prompt, max_new_tokens=10, do_sample=False, use_cache=False)
    beams = [model.generate(prompt, max_new_tokens=10, num_beams=3, do_sample=False, use_cache=c) for c in (True, False)]

mended = BothNames(model.config).eval()
mended.load_state_dict(model.state_dict())
assert torch.equal(mended.generate(prompt, max_new_tokens=10, do_sample=False), truth), "the way around fails"

show = lambda ids: ids[0, 5:].tolist()
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print("  whole forward passes   ", show(truth))
print("  generate, no cache     ", show(uncached))
print("  generate, with cache   ", show(cached))
print("  3 beams, no cache      ", show(beams[1]))
print("  3 beams, with cache    ", show(beams[0]))
print("  said by forward passes ", lines_before)
print("  said by generate       ", [str(w.message) for w in caught] + lines[len(lines_before) :])
assert torch.equal(uncached, truth), "without a cache it is right in both releases"
if transformers.__version__ == "5.23.0":
    assert torch.equal(cached, truth) and torch.equal(*beams), "5.23 was right with the cache"
else:
    assert torch.equal(cached[:, :6], truth[:, :6]), "the first token comes from the whole prompt"
    assert not torch.equal(cached, truth) and not torch.equal(*beams), "the cache reaches the model again"
    alone = [model(cached[:, i : i + 1]).logits[0, -1].argmax().item() for i in range(5, 14)]
    print("  from one token, no past", [cached[0, 5].item(), *alone])
    assert cached[0, 6:].tolist() == alone, "each token is no longer a function of the one before it alone"
    assert not caught and lines == lines_before, "generate says something about it now"
PY
PYTHONPATH="$work/old" "$work/venv/bin/python" "$work/check.py"
"$work/venv/bin/python" "$work/check.py"
