#!/usr/bin/env bash
# A SentencePiece model trained with SentencePiece's default settings gives other ids in transformers 5: T5Tokenizer
# writes `</s>` for each unknown letter, LlamaTokenizer leaves the letter out or skips the model's normalization.
#
# Date: 2026-11-30. Versions: transformers 5.24.0 (5.23.0 alike), tokenizers 0.23.3, sentencepiece 0.2.3, Python 3.11.
#
# A good guess: these classes take a SentencePiece file and give the ids that SentencePiece gives, plus the special
# tokens of the model. The file says which id is unknown, how text is normalized and whether bytes stand in.
# What happens: pieces and scores are taken from the file. Much of the rest is what the published checkpoint had.
# * T5Tokenizer: the unknown id is 2, always. In a file trained without further options 2 is `</s>` and `<unk>` is 0. So
#   "the Quick fox" holds the end of the sentence in the middle, while `tokenizer.unk_token_id` says 0. Byte pieces of a
#   file with `byte_fallback` are never used.
# * LlamaTokenizer: a letter that a file without byte pieces does not know disappears ("Quick" and "uick" are one). The
#   normalization of the file is dropped: two spaces or a no-break space give other ids than in training.
# No error, no warning, and text of known letters with single spaces is right, so a short trial finds nothing.
# Whom it hurts: who trains a translation or T5 model from scratch on an own SentencePiece file. Targets that hold a rare
# letter teach the model to stop there; names lose letters.
# Way around: for T5Tokenizer train with pad_id=0, eos_id=1, unk_id=2, bos_id=-1; for LlamaTokenizer with byte_fallback
# and normalization_rule_name="identity", remove_extra_whitespaces=False. Compare with SentencePiece on hard text.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2

cd "$work"
"$work/venv/bin/python" - <<'PY'
import os
import random
import shutil

import sentencepiece
import tokenizers
import transformers
from transformers import LlamaTokenizer, T5Tokenizer

random.seed(0)
words = "the a quick brown fox jumps over lazy dog house tree translation machine learning model train test data".split()
with open("text.txt", "w") as file:
    file.writelines(" ".join(random.choices(words, k=8)) + "\n" for _ in range(2000))


def train(name, kind, file, **options):
    os.makedirs(name)
    size = 330 if options.get("byte_fallback") else 70
    sentencepiece.SentencePieceTrainer.train(input="text.txt", model_prefix=name, vocab_size=size, model_type=kind,
                                             hard_vocab_limit=False, minloglevel=2, **options)
    shutil.copy(f"{name}.model", f"{name}/{file}")
    return sentencepiece.SentencePieceProcessor(model_file=f"{name}.model")


def show(name, tokenizer, truth, text):
    ids, right = tokenizer.encode(text, add_special_tokens=False), truth.encode(text)
    print(f"  {name:31} {text!r:20} SentencePiece {[truth.id_to_piece(i) for i in right]}")
    print(f"  {'':31} {'':20} transformers  {tokenizer.convert_ids_to_tokens(ids)}")
    return ids, right


easy, letter, spaces = "the quick fox", "the Quick fox", "the  quick\u00a0fox"
print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__},"
      f" sentencepiece {sentencepiece.__version__}")

truth = train("t5", "unigram", "spiece.model")
tokenizer = T5Tokenizer.from_pretrained("t5", extra_ids=0)
ids, right = show("T5, trained with no options", tokenizer, truth, easy)
assert ids == right
ids, right = show("T5, trained with no options", tokenizer, truth, letter)
assert [a for a, b in zip(ids, right) if a != b] == [2] and [b for a, b in zip(ids, right) if a != b] == [0]
assert tokenizer.eos_token_id == 2 and tokenizer.unk_token_id == 0 == truth.unk_id(), "the unknown id follows the file"

truth = train("t5-bytes", "unigram", "spiece.model", byte_fallback=True, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
tokenizer = T5Tokenizer.from_pretrained("t5-bytes", extra_ids=0)
ids, right = show("T5, byte_fallback", tokenizer, truth, letter)
assert "<0x51>" in truth.encode(letter, out_type=str) and tokenizer.unk_token_id in ids, "bytes are used now"

truth = train("llama", "bpe", "tokenizer.model")
tokenizer = LlamaTokenizer.from_pretrained("llama")
ids, right = show("Llama, trained with no options", tokenizer, truth, letter)
assert truth.unk_id() in right and "Q" not in tokenizer.decode(ids), "the letter is kept"
assert ids == tokenizer.encode("the uick fox", add_special_tokens=False), "the unknown letter leaves a trace"

truth = train("llama-bytes", "bpe", "tokenizer.model", byte_fallback=True)
tokenizer = LlamaTokenizer.from_pretrained("llama-bytes")
assert show("Llama, byte_fallback", tokenizer, truth, letter)[0] == truth.encode(letter)
ids, right = show("Llama, byte_fallback", tokenizer, truth, spaces)
assert right == truth.encode(easy) and ids != right, "the file's normalization is applied"

truth = train("t5-mended", "unigram", "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
tokenizer = T5Tokenizer.from_pretrained("t5-mended", extra_ids=0)
assert all(tokenizer.encode(text, add_special_tokens=False) == truth.encode(text) for text in (easy, letter, spaces))
truth = train("llama-mended", "bpe", "tokenizer.model", byte_fallback=True, normalization_rule_name="identity",
              remove_extra_whitespaces=False)
tokenizer = LlamaTokenizer.from_pretrained("llama-mended")
assert all(tokenizer.encode(text, add_special_tokens=False) == truth.encode(text) for text in (easy, letter, spaces))
print("  with the options of the way around both classes give SentencePiece's ids for all three texts")
PY
