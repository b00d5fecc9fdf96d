"""The built-in sentiment corpus: balanced, and out of reach of a bag of words."""

import re
from collections import defaultdict

import pytest
import torch

from vanilla_recipes.data.toy import toy_rows
from vanilla_recipes.data.toy.sentiment import _BLAME, _FAILURES, _PRAISE, _TREASURES


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def counts(rows: list[dict], vocabulary: dict[str, int]) -> torch.Tensor:
    features = torch.zeros(len(rows), len(vocabulary))
    for index, row in enumerate(rows):
        for word in words(row["text"]):
            if word in vocabulary:
                features[index, vocabulary[word]] += 1
    return features


@pytest.fixture(scope="module")
def train() -> list[dict]:
    return toy_rows("sentiment", "train", 10_000)


@pytest.fixture(scope="module")
def test() -> list[dict]:
    return toy_rows("sentiment", "test", 2_000)


@pytest.fixture(scope="module")
def many() -> list[dict]:
    return toy_rows("sentiment", "train", 50_000, seed=2)


def test_labels_are_balanced(train, test):
    for rows in (train, test):
        assert sum(row["label"] for row in rows) * 2 == len(rows)


def test_every_bag_of_words_has_both_labels_equally_often(train, test):
    for rows in (train, test):
        balance: dict[tuple[str, ...], int] = defaultdict(int)
        for row in rows:
            balance[tuple(sorted(words(row["text"])))] += 1 if row["label"] else -1
        assert set(balance.values()) == {0}


def test_a_linear_classifier_of_word_counts_stays_near_chance(train, test):
    vocabulary = {word: index for index, word in enumerate(sorted({w for row in train for w in words(row["text"])}))}
    inputs, labels = counts(train, vocabulary), torch.tensor([float(row["label"]) for row in train])
    weights = torch.zeros(len(vocabulary), requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weights, bias], lr=0.05)
    for _ in range(100):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weights + bias, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = ((counts(test, vocabulary) @ weights + bias) > 0) == torch.tensor([bool(row["label"]) for row in test])
    assert 0.4 < right.float().mean().item() < 0.6


@pytest.mark.parametrize(
    ("pattern", "label"),
    [
        (r"The \w+ was BLAME, but the \w+ was PRAISE", 1),
        (r"The \w+ was PRAISE, but the \w+ was BLAME", 0),
        (r"Although the \w+ was PRAISE, the \w+ was BLAME", 0),
        (r"The \w+ was PRAISE, although the \w+ was BLAME", 1),
        (r"The \w+ was BLAME, but the \w+ was not only PRAISE but also PRAISE", 1),
        (r"The \w+ was far from BLAME: it was PRAISE", 1),
        (r"The \w+ was far from PRAISE: it was BLAME", 0),
        (r"The \w+ was less BLAME than PRAISE", 1),
        (r"The \w+ was not BLAME, and the \w+ was PRAISE", 1),
        (r"The \w+ was BLAME, and the \w+ was not PRAISE", 0),
        (r"I expected a FAILURE and got a TREASURE", 1),
        (r"I expected a TREASURE and got a FAILURE", 0),
    ],
)
def test_order_decides(pattern, label, many):
    for name, choices in (("PRAISE", _PRAISE), ("BLAME", _BLAME), ("TREASURE", _TREASURES), ("FAILURE", _FAILURES)):
        pattern = pattern.replace(name, "(" + "|".join(choices) + ")")
    found = [row for row in many if re.fullmatch(pattern + r"\.", row["text"])]
    assert found
    assert {row["label"] for row in found} == {label}


def test_rows_are_natural_sentences_of_5_to_25_words(train, test):
    for row in train + test:
        assert 5 <= len(row["text"].split()) <= 25, row
        assert row["text"][0].isupper()
        assert row["text"].endswith(".")
        assert not re.search(r"[{}]|  |\ba [aeiou]", row["text"]), row


def test_splits_are_disjoint_and_words_of_held_out_rows_known(train, test):
    texts = {row["text"] for row in train}
    assert len(texts) == len(train)
    assert texts.isdisjoint(row["text"] for row in test)
    assert {w for row in test for w in words(row["text"])} <= {w for text in texts for w in words(text)}
