#!/usr/bin/env bash
# With `gradient_accumulation_steps=4` the Trainer of transformers 5.24 takes gradients that are four times too large
# for BART, T5, Marian, BERT and others, and logs a loss that is four times too large. GPT-2 and Llama are right.
#
# Date: 2026-11-30. Versions: transformers 5.24.0, accelerate 1.15.0, torch 2.13.0, Python 3.11.
#
# A good guess: one step over a batch of 8 and one step over 4 batches of 2, with the same rows and equally many labels
# in each, have the same loss and the same gradient. That is what accumulation is for, and the library's own models
# are the ones it is tested with.
# What happens: the Trainer takes a `**kwargs` in `forward` for the promise that the model divides its loss by the
# `num_items_in_batch` it is handed, over all micro-batches, and then leaves out its own division by their number. The
# language models that use the library's common loss keep that promise. The encoder-decoders, the masked language
# model and the classifiers of BERT have the `**kwargs` (for attention), and take the plain mean of each micro-batch.
# So nobody divides. No warning. 5.23.0 does the same. Clipping hides it: more steps reach the limit of 1.0 than should.
# Whom it hurts: who trains or tunes translation models or encoders on a small GPU, the very case for accumulation;
# figures for different accumulation are not comparable, SGD and clipped Adam go other ways.
# Way around: `trainer.loss_is_scaled_for_ga = False`, or `model.accepts_loss_kwargs = False` before the Trainer is
# made.
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

import torch
import transformers
from transformers import (
    BartConfig, BartForConditionalGeneration, BertConfig, BertForMaskedLM, BertForSequenceClassification, GPT2Config,
    GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MarianConfig, MarianMTModel, T5Config, T5ForConditionalGeneration,
    Trainer, TrainingArguments,
)

two_stacks = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32,
    "dropout": 0.0, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}
bert = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                  hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
gpt2 = GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                  bos_token_id=1, eos_token_id=2)
llama = LlamaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
t5 = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0,
              decoder_start_token_id=0)
models = [
    (GPT2LMHeadModel, gpt2, 1), (LlamaForCausalLM, llama, 1), (BartForConditionalGeneration, BartConfig(**two_stacks), 4),
    (MarianMTModel, MarianConfig(**two_stacks), 4), (T5ForConditionalGeneration, t5, 4), (BertForMaskedLM, bert, 4),
    (BertForSequenceClassification, bert, 4),
]


def one_step(make, config, batch, accumulation, way_around=None):
    torch.manual_seed(0)
    model = make(config)
    rows = torch.randint(3, 64, (8, 6), generator=torch.Generator().manual_seed(1))
    labels = [i % 2 for i in range(8)] if make is BertForSequenceClassification else rows
    if way_around == "model":
        model.accepts_loss_kwargs = False
    arguments = TrainingArguments("out", per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
                                  max_steps=1, logging_steps=1, optim="sgd", use_cpu=True, report_to=[],
                                  save_strategy="no", disable_tqdm=True)
    trainer = Trainer(model, arguments, train_dataset=[{"input_ids": r, "labels": y} for r, y in zip(rows, labels)])
    if way_around == "trainer":
        trainer.loss_is_scaled_for_ga = False
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    log = trainer.state.log_history[0]
    return torch.tensor([float(log["loss"]), float(log["grad_norm"])])


transformers.logging.set_verbosity_warning()
print(f"transformers {transformers.__version__}, torch {torch.__version__}: loss and norm of the gradient")
for make, config, factor in models:
    whole, parts = one_step(make, config, 8, 1), one_step(make, config, 2, 4)
    print(f"  {make.__name__:29} 1 batch of 8: {whole[0]:7.3f} {whole[1]:7.3f}   4 batches of 2: {parts[0]:7.3f}"
          f" {parts[1]:7.3f}   factor {parts[0] / whole[0]:.3f} {parts[1] / whole[1]:.3f}")
    assert torch.allclose(parts, factor * whole, rtol=1e-3), f"{make.__name__}: the factor is no longer {factor}"
    if factor > 1:
        for way in ("model", "trainer"):
            assert torch.allclose(one_step(make, config, 2, 4, way), whole, rtol=1e-3), f"{way}: no way around any more"
print("  with either way around all of them have factor 1")
PY
