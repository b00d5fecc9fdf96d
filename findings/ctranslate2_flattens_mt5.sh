#!/usr/bin/env bash
# With transformers 5, CTranslate2 converts mT5 and T5 v1.1 (so also Flan-T5) without an error, but with the wrong scale
# of the output: greedy search agrees with transformers; scores, beam search and sampling do not.
#
# Date: 2026-11-30. Versions: ctranslate2 4.8.5, transformers 5.24.0, torch 2.13.0, Python 3.11.
#
# A good guess: a converter that names these models as supported and ends without an error gives their probabilities.
# What happens: the first T5 multiplies the decoder's output by d_model ** -0.5, the later ones do not. The converter
# tells them apart by `tie_word_embeddings` of the configuration, which is false in their config.json. transformers 5
# puts that field to true when it reads the folder, for the whole family, and keeps the difference in another field
# (`scale_decoder_outputs`; mT5 has none, as it never scales). So the factor goes into every converted model: all
# logits are divided by the root of d_model, 23 to 64 in the published sizes. The order of the tokens stays, so greedy
# search, the usual check after a conversion, shows nothing. The probabilities are almost flat.
# Whom it hurts: translation by beam search (other and worse texts), sampling (nearly noise), and all who rank or filter
# by scores.
# Way around: set the scale to 1 in the loader before converting, as at the end of this script. Compare `score_batch`
# with the original after each conversion, not greedy texts.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq torch==2.13.0 transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 ctranslate2==4.8.5

cd "$work"
"$work/venv/bin/python" - <<'PY'
import json

import ctranslate2
import numpy
import torch
import transformers
from ctranslate2.converters import TransformersConverter
from ctranslate2.converters import transformers as loaders
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast
from transformers import T5Config, T5ForConditionalGeneration

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
words = ["<pad>", "</s>", "<unk>"] + [f"w{i}" for i in range(3, 64)]
backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
sources = torch.randint(3, 64, (40, 6), generator=torch.Generator().manual_seed(2))
sources[:, -1] = 1
targets = torch.randint(3, 64, (40, 6), generator=torch.Generator().manual_seed(3))


def spell(ids):
    return [words[i] for i in ids]


def until_end(ids):
    return ids[: ids.index(1)] if 1 in ids else ids


def folder_of(name, make, config, own_head):
    """A folder as the published ones of this kind: with an output layer of its own or without."""
    torch.manual_seed(0)
    model = make(config(vocab_size=64, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, decoder_start_token_id=0,
                        pad_token_id=0, eos_token_id=1, feed_forward_proj="gated-gelu"))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
    model.save_pretrained(name)
    tokenizer.save_pretrained(name)
    if own_head:
        weights = load_file(f"{name}/model.safetensors")
        weights["lm_head.weight"] = torch.randn(64, 64, generator=torch.Generator().manual_seed(1)) * 0.25
        save_file(weights, f"{name}/model.safetensors", {"format": "pt"})
        settings = json.load(open(f"{name}/config.json"))
        settings["tie_word_embeddings"] = False
        settings.pop("scale_decoder_outputs", None)
        json.dump(settings, open(f"{name}/config.json", "w"))
    return name


def compare(name, make, converted):
    """Largest difference of a log probability, texts of 40 that agree: greedy, four beams."""
    model = make.from_pretrained(name).eval()
    TransformersConverter(name).convert(converted)
    translator = ctranslate2.Translator(converted, compute_type="float32", intra_threads=1, inter_threads=1)
    start = torch.zeros(len(targets), 1, dtype=torch.long)
    with torch.no_grad():
        logits = model(input_ids=sources, decoder_input_ids=torch.cat([start, targets], 1)).logits
    right = logits.log_softmax(-1)[:, :-1].gather(-1, targets[..., None])[..., 0].numpy()
    scored = translator.score_batch([spell(s) for s in sources], [spell(t) for t in targets])
    difference = numpy.abs(numpy.array([s.log_probs[: targets.shape[1]] for s in scored]) - right).max()
    agree = []
    for beams in (1, 4):
        ask = {"max_new_tokens": 8, "num_beams": beams, "do_sample": False}
        theirs = model.generate(sources, **ask, **({"early_stopping": True} if beams > 1 else {}))
        ours = translator.translate_batch([spell(s) for s in sources], beam_size=beams, max_decoding_length=8)
        texts = [spell(until_end(row[1:].tolist())) for row in theirs]
        agree.append(sum(o.hypotheses[0] == text for o, text in zip(ours, texts)))
    return difference, *agree


print(f"ctranslate2 {ctranslate2.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
kinds = {
    "t5-first": (T5ForConditionalGeneration, T5Config, False),
    "t5-v1.1": (T5ForConditionalGeneration, T5Config, True),
    "mt5": (MT5ForConditionalGeneration, MT5Config, True),
}
for name, (make, config, own_head) in kinds.items():
    folder_of(name, make, config, own_head)
    difference, greedy, beams = compare(name, make, f"{name}-ct2")
    print(f"  {name:9} log probabilities differ by {difference:.2g}, equal texts of 40: greedy {greedy}, 4 beams {beams}")
    if own_head:
        assert difference > 1, "the probabilities are right now"
        assert greedy == 40 and beams < 30, "other searches are hit than before"
    else:
        assert difference < 1e-4 and greedy == 40 and beams >= 39, "the first T5 converts well"

for loader in (loaders.T5Loader, loaders.MT5Loader):
    def get_model_spec(self, model, plain=loader.get_model_spec):
        spec = plain(self, model)
        if not getattr(model.config, "scale_decoder_outputs", False):
            spec.decoder.scale_outputs = 1.0
        return spec

    loader.get_model_spec = get_model_spec
for name, (make, _, own_head) in kinds.items():
    difference, greedy, beams = compare(name, make, f"{name}-mended")
    print(f"  {name:9} with the scale put right: {difference:.2g}, greedy {greedy}, 4 beams {beams}")
    assert difference < 1e-4 and greedy == 40 and beams >= 39, "the way around fails"
PY
