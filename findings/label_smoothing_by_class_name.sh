#!/usr/bin/env bash
# With `label_smoothing_factor` a subclass of a transformers language model learns to repeat its input: the Trainer
# decides by the NAME of the class whether the labels must be shifted.
#
# Date: 2026-11-30. Versions: transformers 5.24.0, accelerate 1.15.0, torch 2.13.0, Python 3.11.
#
# A good guess: `class MyLlama(LlamaForCausalLM): pass` trains like its parent, with label smoothing as without. Label
# smoothing of 0.1 changes the loss a little and the model hardly at all.
# What happens: with label smoothing the Trainer computes the loss itself. For a language model it must compare each
# position with the NEXT token. It does so only if the name of the model's class is in the library's own table. For
# any other name (a subclass, a class of your own, code that came with a model folder) each position is compared with
# the token that stands there already. The model learns to copy its last token. Its loss falls as nicely as the right
# one, and the evaluation of the same Trainer confirms it. No warning. Without label smoothing the same class is right.
# Whom it hurts: everyone with a decoder that is not in the library, or a stock one with a small change, who turns the
# usual 0.1 on. The generated text shows it, the figures do not.
# Way around: give a `compute_loss_func` that shifts and smooths, or smooth inside the model and leave the option at 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0 accelerate==1.15.0

cd "$work"
"$work/venv/bin/python" - <<'PY'
import contextlib
import io
import warnings

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments


class MyLlama(LlamaForCausalLM):
    pass


def smoothed(outputs, labels, num_items_in_batch=None):
    logits, targets = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    total = cross_entropy(logits, targets, label_smoothing=0.1, reduction="sum")
    return total / num_items_in_batch


count_by_three = torch.tensor([[(start + 3 * i) % 32 for i in range(12)] for start in range(32)])
rows = [{"input_ids": row, "labels": row} for row in count_by_three]


def train(make, smoothing, loss_function=None):
    torch.manual_seed(0)
    model = make(LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                             num_attention_heads=2, bos_token_id=0, eos_token_id=None, pad_token_id=None))
    arguments = TrainingArguments("out", per_device_train_batch_size=16, max_steps=120, learning_rate=1e-2, use_cpu=True,
                                  label_smoothing_factor=smoothing, logging_steps=1000, report_to=[],
                                  save_strategy="no", disable_tqdm=True)
    trainer = Trainer(model, arguments, train_dataset=rows, compute_loss_func=loss_function)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
        reported = trainer.evaluate(rows)["eval_loss"]
    text = model.generate(torch.tensor([[1, 4, 7]]), max_new_tokens=7, do_sample=False)[0].tolist()
    with torch.no_grad():
        plain = model(input_ids=count_by_three, labels=count_by_three).loss.item()
    return reported, plain, text


transformers.logging.set_verbosity_warning()
print(f"transformers {transformers.__version__}, torch {torch.__version__}; the text counts by three: 1 4 7 10 13 ...")
right, results = list(range(1, 31, 3)), {}
for make, smoothing, function in (
    (LlamaForCausalLM, 0.0, None), (MyLlama, 0.0, None), (LlamaForCausalLM, 0.1, None), (MyLlama, 0.1, None),
    (MyLlama, 0.0, smoothed),
):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reported, plain, text = results[make, smoothing, function] = train(make, smoothing, function)
    said = sorted({str(w.message) for w in caught if "smooth" in str(w.message) or "shift" in str(w.message)})
    print(f"  {make.__name__:16} smoothing {'in compute_loss_func' if function else smoothing}: eval_loss {reported:.3f},"
          f" plain loss {plain:.3f}, generates {text}, warnings {said}")
    assert not said
    if (make, smoothing) != (MyLlama, 0.1):
        assert text == right and plain < 0.3
reported, plain, text = results[MyLlama, 0.1, None]
assert text == [1, 4, 7] + [7] * 7, "the subclass no longer learns to repeat"
assert plain > 3, "the plain loss is good"
assert abs(reported - results[LlamaForCausalLM, 0.1, None][0]) < 0.02, "the reported losses tell the two apart"
PY
