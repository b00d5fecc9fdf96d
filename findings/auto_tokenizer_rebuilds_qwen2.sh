#!/usr/bin/env bash
# In the folder of a Qwen2 or Qwen3.5 model, AutoTokenizer does not load the tokenizer that you saved: it builds a
# tokenizer with Qwen's rules and your vocabulary. With a Llama or Qwen3 configuration it loads the saved tokenizer.
#
# Date: 2026-11-30. Versions: transformers 5.24.0, tokenizers 0.23.3, Python 3.11.
#
# A good guess: `save_pretrained` and `AutoTokenizer.from_pretrained` are a round trip. tokenizer.json holds the whole
# tokenizer, and tokenizer_config.json names the class that reads it as it stands (`TokenizersBackend`).
# What happens: for a short list of model types the saved class is held to be a mistake and the model type decides.
# Qwen2's class takes the vocabulary and the merges, and its own normalizer, its own cut into words (digits one by one)
# and its own special token. A normalizer that lowercases is gone, numbers fall apart, and a token that was never
# trained gets the first id past the vocabulary, for which the model has no row. No warning, no log line.
# Whom it hurts: who trains a small Qwen from scratch with a tokenizer of the tokenizers library. Training uses the
# object in memory and is right; everyone who loads the folder, `pipeline` included, feeds the model other ids.
# Way around: load with `PreTrainedTokenizerFast.from_pretrained(folder)` and hand it over. Encode one text before
# saving and after loading, with capitals and numbers in it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0 tokenizers==0.23.3

cd "$work"
"$work/venv/bin/python" - <<'PY'
import json
import logging
import warnings

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
    Qwen3ForCausalLM, pipeline,
)

lines = []


class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


transformers.logging.set_verbosity_warning()
transformers.logging.disable_progress_bar()
backend = Tokenizer(models.BPE())
backend.normalizer = normalizers.Lowercase()
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
backend.decoder = decoders.ByteLevel()
backend.train_from_iterator(
    ["The price is 1984 dollars", "Numbers 100 200 300 1984"] * 50,
    trainers.BpeTrainer(vocab_size=400, special_tokens=["<pad>", "</s>"], show_progress=False,
                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
)
mine = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")
text = "The price is 1984 dollars"
right = mine.encode(text)
small = {"vocab_size": len(mine), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
         "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}

print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
print(f"  {'in memory':8} {mine.convert_ids_to_tokens(right)}")
for make, config in ((LlamaForCausalLM, LlamaConfig), (Qwen3ForCausalLM, Qwen3Config), (Qwen2ForCausalLM, Qwen2Config)):
    folder = config.model_type
    model = make(config(**small, **({"head_dim": 16} if folder == "qwen3" else {})))
    model.save_pretrained(folder)
    mine.save_pretrained(folder)
    saved = json.load(open(f"{folder}/tokenizer_config.json"))["tokenizer_class"]
    keep = Keep()
    logging.getLogger("transformers").addHandler(keep)
    lines.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = AutoTokenizer.from_pretrained(folder)
        ids = loaded.encode(text)
    logging.getLogger("transformers").removeHandler(keep)
    said = [str(w.message) for w in caught] + lines
    print(f"  {folder:9} saved as {saved}, loaded as {type(loaded).__name__}: {loaded.convert_ids_to_tokens(ids)}")
    assert saved == "TokenizersBackend" and not said, said
    if folder != "qwen2":
        assert ids == right and len(loaded) == len(mine), f"{folder}: the round trip failed"
        continue
    extra = {token: i for token, i in loaded.get_vocab().items() if i >= model.config.vocab_size}
    print(f"  {'':9} rows of the model {model.get_input_embeddings().num_embeddings}, tokens past them {extra},"
          f" normalizer {loaded.backend_tokenizer.normalizer}")
    assert type(loaded).__name__ == "Qwen2Tokenizer" and ids != right, "the round trip works now"
    assert list(extra) == ["<|endoftext|>"], extra
    in_pipeline = pipeline("text-generation", model=folder).tokenizer.encode(text)
    assert in_pipeline == ids, "pipeline reads the folder in another way"
    around = PreTrainedTokenizerFast.from_pretrained(folder)
    assert around.encode(text) == right and len(around) == len(mine), "no way around any more"
    print("  qwen2     pipeline: as AutoTokenizer; PreTrainedTokenizerFast.from_pretrained: as in memory")
PY
