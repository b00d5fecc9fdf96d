#!/usr/bin/env bash
# PEFT's soft prompts are right in a forward pass under transformers 5.24 and wrong in `generate`: prefix tuning has no
# effect at all, prompt tuning and P-tuning write their prompt into the cache again before every token.
#
# Date: 2026-11-30. Versions: peft 0.21.2 (newest on that day), transformers 5.23.0 and 5.24.0, torch 2.13.0.
#
# A good guess: a released pair that installs together without a conflict works together; at the least an error would
# come. `generate` and the adapted model's own forward pass must agree on the text.
# What happens with a stock Llama under 5.24, where the cache goes by the name `cache`, and PEFT looks for
# `past_key_values`:
# * Prefix tuning: PEFT puts its prefix under the old name beside the new, empty cache; the model drops the old one.
#   The text is, token for token, that of the base model. The one sign is a warning "both are set". Without the cache
#   (`use_cache=False`, an error in 5.23) it is wrong in another way.
# * Prompt tuning and P-tuning: PEFT finds no cache at any step, takes each step for the first one and puts the virtual
#   tokens in again. The cache grows by the whole prompt with each token. No warning says so.
# In 5.23 all three agree with the forward pass. In 5.24 the forward pass is still right, and so is the loss.
# Whom it hurts: whoever trained a good prompt and judges it by its texts, and services that updated one package.
# Way around: transformers below 5.24. For prompt tuning and P-tuning also `use_cache=False`. LoRA is not touched.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0 peft==0.21.2 accelerate==1.15.0
"$work/venv/bin/pip" install -qq --no-deps --target "$work/old" transformers==5.23.0

cat > "$work/check.py" <<'PY'
import warnings

import peft
import torch
import transformers
from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

VIRTUAL, NEW = 5, 8
old = transformers.__version__ == "5.23.0"
prompt = torch.tensor([[5, 9, 17, 33], [7, 8, 60, 2]])
settings = {"task_type": "CAUSAL_LM", "num_virtual_tokens": VIRTUAL}
methods = {
    "LoRA": LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False),
    "prompt tuning": PromptTuningConfig(**settings),
    "P-tuning": PromptEncoderConfig(**settings, encoder_hidden_size=32),
    "prefix tuning": PrefixTuningConfig(**settings),
}


def llama():
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=4, bos_token_id=1, eos_token_id=None, pad_token_id=0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


def by_forward_passes(model):
    ids = prompt
    for _ in range(NEW):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    return ids


print(f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}")
warnings.simplefilter("ignore")  # by_forward_passes: the old name is deprecated, and works there
base = by_forward_passes(llama())
for name, config in methods.items():
    model = get_peft_model(llama(), config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "prompt_encoder" in parameter_name:
                parameter.normal_(0, 0.5)
    truth = by_forward_passes(model)
    assert not torch.equal(truth, base), f"{name}: the adapter has an effect, so the test can tell"
    ask = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), "max_new_tokens": NEW, "do_sample": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = model.generate(**ask, return_dict_in_generate=True)
    # the left out warning, on position ids, comes in both releases and does no harm
    said = sorted({str(w.message).split(". Using")[0] for w in caught if "Position ids are not supp" not in str(w.message)})
    text, length = answer.sequences, answer.past_key_values.get_seq_length()
    print(f"  {name:13} forward passes {truth[0, 4:].tolist()}")
    print(f"  {'':13} generate       {text[0, 4:].tolist()}  entries in the cache: {length}  warnings: {said}")
    if old or name == "LoRA":
        assert torch.equal(text, truth), f"{name}: this was right"
        continue
    assert not torch.equal(text, truth), f"{name}: generate is right again"
    if name == "prefix tuning":
        assert torch.equal(text, base) and length == prompt.shape[1] + NEW - 1, "no longer the text of the base model"
        assert len(said) == 1 and said[0].startswith("Both `past_key_values` and `cache` are set"), said
        print(f"  {'':13} the base model {base[0, 4:].tolist()}")
        assert not torch.equal(model.generate(**ask, use_cache=False), truth), "use_cache=False is right now"
    else:
        once, again = VIRTUAL + prompt.shape[1], (VIRTUAL + 1) * (NEW - 1)
        assert length == once + again and not said, "the prompt is no longer put in at every step, or something is said"
        assert torch.equal(model.generate(**ask, use_cache=False), truth), "use_cache=False is no way around any more"
PY
PYTHONPATH="$work/old" "$work/venv/bin/python" "$work/check.py"
"$work/venv/bin/python" "$work/check.py"
