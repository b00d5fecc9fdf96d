#!/usr/bin/env bash
# A BART with `tie_word_embeddings=False` has four token embeddings. `get_input_embeddings` returns one that the model
# does not use: vectors written into it have no effect, and resizing overwrites the trained embeddings with it.
#
# Date: 2026-11-30. Versions: transformers 5.24.0, torch 2.13.0, Python 3.11. The same in mBART, M2M100, Pegasus.
#
# A good guess: the option unties the output layer from the input table, as its name says. Encoder and decoder go on
# sharing `model.shared`, which the class calls its input embeddings: two tables.
# What happens: everything is untied. `shared`, the encoder's, the decoder's and the output table are four parameters.
# The forward pass reads the last three. `shared` never gets a gradient, yet it is what `get_input_embeddings` gives
# and what `resize_token_embeddings` enlarges and then hands to encoder and decoder: their trained tables are replaced
# by one with the random values of the first day. The log speaks of new rows only.
# Whom it hurts: who trains translation models from scratch with an output layer of their own and adds tokens later
# (all that the embeddings learnt is lost), and who puts pretrained vectors in by `get_input_embeddings` (none is used).
# Way around: with the option off, tie encoder and decoder by hand as soon as the model is made, by `model.model.
# set_input_embeddings(model.model.shared)`. Do it again after each loading: a folder saved so holds the one table, and
# encoder and decoder are filled at random until they are tied again (the load report names them).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0

cd "$work"
"$work/venv/bin/python" - <<'PY'
import logging
import warnings

import torch
import transformers
from transformers import (
    BartConfig, BartForConditionalGeneration, M2M100Config, M2M100ForConditionalGeneration, MBartConfig,
    MBartForConditionalGeneration, PegasusConfig, PegasusForConditionalGeneration,
)

lines = []


class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


transformers.logging.set_verbosity_warning()
transformers.logging.disable_progress_bar()
logging.getLogger("transformers").addHandler(Keep())
small = {
    "vocab_size": 64, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
    "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
}
rows = torch.randint(3, 64, (64, 8), generator=torch.Generator().manual_seed(0))


def trained(make, config, tied, by_hand=False):
    """A model that has learnt to copy its source."""
    torch.manual_seed(0)
    model = make(config(**small, tie_word_embeddings=tied))
    if by_hand:
        model.model.set_input_embeddings(model.model.shared)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
    return model.eval()


def loss(model):
    with torch.no_grad():
        return model(input_ids=rows, labels=rows).loss.item()


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
for make, config in (
    (BartForConditionalGeneration, BartConfig), (MBartForConditionalGeneration, MBartConfig),
    (M2M100ForConditionalGeneration, M2M100Config), (PegasusForConditionalGeneration, PegasusConfig),
):
    model = trained(make, config, tied=False)
    base = model.model
    tables = {id(t.weight) for t in (base.shared, base.encoder.embed_tokens, base.decoder.embed_tokens, model.lm_head)}
    assert len(tables) == 4, "the tables are shared now"
    assert model.get_input_embeddings() is base.shared and base.shared.weight.grad is None, "the table is in use now"
    before = loss(model)
    with torch.no_grad():
        base.shared.weight.zero_()
    zeroed = loss(model)
    assert zeroed == before, "zeros in the table are noticed now"

    model = trained(make, config, tied=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lines.clear()
        model.resize_token_embeddings(65)
    said = [str(w.message) for w in caught] + lines
    after = loss(model)
    print(f"  {make.__name__:31} tables 4, loss {before:.3f}, with zeros in get_input_embeddings() {zeroed:.3f}, with one"
          f" more token {after:.3f}")
    assert before < 0.2 and after > 10 * before and after > 1, "resizing keeps what was learnt"
    assert not any("shared" in line or "tie" in line for line in said), said

for name, options in {"tied": {"tied": True}, "untied, then tied by hand": {"tied": False, "by_hand": True}}.items():
    model = trained(BartForConditionalGeneration, BartConfig, **options)
    before = loss(model)
    model.resize_token_embeddings(65)
    print(f"  BART, {name}: loss {before:.3f}, with one more token {loss(model):.3f}")
    assert before < 0.2 and loss(model) < before + 0.1
model.save_pretrained("by-hand")
loaded = BartForConditionalGeneration.from_pretrained("by-hand").eval()
first = loss(loaded)
loaded.model.set_input_embeddings(loaded.model.shared)
print(f"  the last one saved and loaded: loss {first:.3f}, tied by hand again {loss(loaded):.3f}")
assert first > 1 and loss(loaded) < before + 0.1
PY
