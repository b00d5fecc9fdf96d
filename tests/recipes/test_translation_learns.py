"""The translation recipe learns: word order from a handful of rows, and the built-in corpus to the stated scores."""

import json
import random
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from vanilla_recipes.data.toy import role_swapped_pairs
from vanilla_recipes.scoring.decoding import translate
from vanilla_recipes.translation import main

WORDS = ["red", "green", "blue", "black", "white", "brown", "grey", "pink"]


def _write_reversals(folder: Path) -> None:
    """Rows whose target is the source backwards; the validation and test rows are not among the training rows."""
    generator = random.Random(0)
    rows = sorted({tuple(generator.choices(WORDS, k=generator.randint(3, 5))) for _ in range(3000)})
    generator.shuffle(rows)
    parts = {"train": rows[:-100], "validation": rows[-100:-50], "test": rows[-50:]}
    for split, sentences in parts.items():
        lines = [json.dumps({"en": " ".join(words), "de": " ".join(reversed(words))}) for words in sentences]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))


def test_learns_to_reverse(tmp_path):
    _write_reversals(tmp_path)
    settings = {
        "data.path": tmp_path,
        "output_dir": tmp_path / "run",
        "max_duration": "700 steps",
        "evaluation.every": "null",
        "checkpoint.every": "null",
        "precision": "fp32",
        "schedule.warmup": "50 steps",
        "optimizer.learning_rate": 1e-3,
        "batch.tokens": 600,
        "tokenizer.vocab_size": 320,
        "model.hidden_size": 64,
        "model.intermediate_size": 128,
        "model.encoder_layers": 1,
        "model.decoder_layers": 1,
        "model.hidden_dropout_prob": 0,
    }
    assert main(["translation/toy", *(f"{key}={value}" for key, value in settings.items())]) == 0
    test = json.loads((tmp_path / "run" / "results.json").read_text())["test"]
    assert test["rows"] == 50
    assert test["bleu"] > 90


def run_toy(folder: Path, positions: str) -> Path:
    assert main(["translation/toy", f"model.position_embedding_type={positions}", f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory) -> Path:
    """The run folder of the toy configuration as it is."""
    return run_toy(tmp_path_factory.mktemp("toy") / "run", "sinusoidal")


@pytest.fixture(scope="module")
def toy_run_without_positions(tmp_path_factory) -> Path:
    return run_toy(tmp_path_factory.mktemp("toy") / "run", "none")


def bleu(folder: Path) -> float:
    return json.loads((folder / "results.json").read_text())["test"]["bleu"]


def right_translations(folder: Path) -> list[bool]:
    """Of 100 pairs of sentences with the same words in other roles."""
    rows = [row["translation"] for pair in role_swapped_pairs(100) for row in pair]
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "best").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "best")
    answers = translate(model, tokenizer, [row["en"] for row in rows])
    return [answer == row["de"] for answer, row in zip(answers, rows, strict=True)]


def test_toy_reaches_its_score(toy_run):
    assert bleu(toy_run) >= 92
    assert sum(right_translations(toy_run)) >= 170


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_positions_are_worth(toy_run, toy_run_without_positions):
    """A bag of words gives both sentences of a pair the same translation, right for one of them at best."""
    assert bleu(toy_run_without_positions) <= bleu(toy_run) - 15
    right = right_translations(toy_run_without_positions)
    assert sum(right) <= 110
    assert not any(a and b for a, b in zip(right[::2], right[1::2], strict=True))
