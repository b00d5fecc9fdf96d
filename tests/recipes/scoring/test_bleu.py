"""Our BLEU is SacreBLEU's, to the last digit."""

import pytest
import sacrebleu

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.bleu import Bleu

PREDICTIONS = ["The dog bites the old man.", "A cat sleeps, here.", "He isn't at home today"]
REFERENCES = ["The dog bites the man.", "a cat sleeps here .", "He isn't at home."]


@pytest.mark.parametrize(("tokenize", "lowercase"), [("13a", False), ("13a", True), ("intl", False), ("none", True)])
def test_equals_sacrebleu(tokenize, lowercase):
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES], tokenize=tokenize, lowercase=lowercase)
    found = Bleu(tokenize=tokenize, lowercase=lowercase).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert found["bleu"] == expected.score
    assert 0 < found["bleu"] < 100


def test_signature_says_how():
    found = Bleu().compute(predictions=PREDICTIONS, references=REFERENCES)
    assert found["signature"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert "case:lc" in Bleu(lowercase=True).compute(predictions=["a"], references=["A"])["signature"]


def test_batches_add_up_to_one_corpus():
    metric = Bleu()
    metric.add_batch(predictions=PREDICTIONS[:1], references=REFERENCES[:1])
    metric.add_batch(predictions=PREDICTIONS[1:], references=REFERENCES[1:])
    whole = metric.compute()
    assert whole == Bleu().compute(predictions=PREDICTIONS, references=REFERENCES)
    again = metric.compute(predictions=["a b c d"], references=["a b c d"])
    assert again["bleu"] == pytest.approx(100)


def test_an_empty_translation_counts():
    assert Bleu().compute(predictions=["", "a b c d"], references=["a b c d", "a b c d"])["bleu"] < 50


def test_works_offline_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Bleu().compute(predictions=PREDICTIONS, references=REFERENCES)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_score():
    with pytest.raises(UserError, match="BLEU of 0 translations is not defined"):
        Bleu().compute(predictions=[], references=[])
    with pytest.raises(UserError, match="BLEU of 0 translations is not defined"):
        Bleu().compute()


def test_faults():
    with pytest.raises(UserError, match="tokenize='13b' is not a tokenizer of SacreBLEU; choose one of 13a, char, "):
        Bleu(tokenize="13b")
    with pytest.raises(ValueError, match=r"Mismatch in the number of predictions \(3\) and references \(2\)"):
        Bleu().compute(predictions=PREDICTIONS, references=REFERENCES[:2])
