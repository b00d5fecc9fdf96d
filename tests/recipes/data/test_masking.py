"""Which tokens masking hides, how often, and that only the row decides it."""

import numpy as np
import pytest
import torch

from vanilla_recipes.data.masking import Masker, MaskingConfig, collate_masked
from vanilla_recipes.data.tokenizers import character_tokenizer, train_encoder_tokenizer
from vanilla_recipes.data.toy import toy_rows
from vanilla_recipes.errors import UserError

TEXTS = [row["text"] for row in toy_rows("stories", "train", 300)]


@pytest.fixture(scope="module")
def tokenizer():
    """One with so few tokens that most words have several pieces."""
    return train_encoder_tokenizer(TEXTS, 150, max_length=256)


@pytest.fixture(scope="module")
def rows(tokenizer) -> list[np.ndarray]:
    """Rows as the recipe holds them, ends included."""
    return [np.array(ids, dtype=np.uint16) for ids in tokenizer(TEXTS)["input_ids"]]


def masked(tokenizer, rows, seed: int = 1, epoch: int = 0, **settings):
    masker = Masker(tokenizer, MaskingConfig(**settings))
    return [masker(row, np.random.default_rng([seed, epoch, number])) for number, row in enumerate(rows)]


def within(count: int, num_trials: int, share: float) -> bool:
    """Whether a binomial count lies within five standard deviations, which fails once in two million times."""
    return abs(count - num_trials * share) <= 5 * np.sqrt(num_trials * share * (1 - share))


def words_of(tokens: list[str]) -> list[list[int]]:
    """Positions of the pieces of each word, worked out on the tokens' text."""
    words: list[list[int]] = []
    for position, token in enumerate(tokens):
        if token in ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"):
            continue
        if token.startswith("##") and len(token) > 2 and words and words[-1][-1] == position - 1:
            words[-1].append(position)
        else:
            words.append([position])
    return words


@pytest.mark.parametrize("probability", [0.15, 0.3])
@pytest.mark.parametrize("whole_word", [False, True])
def test_share_of_the_tokens(tokenizer, rows, probability, whole_word):
    found = masked(tokenizer, rows, probability=probability, whole_word=whole_word)
    num_tokens = sum(len(row) - 2 for row in rows)
    share = sum(len(row.positions) for row in found) / num_tokens
    # The number of words in a row is rounded at random, so its share varies less than a binomial one; pieces of a
    # word, 2.2 on average, go together.
    assert abs(share - probability) < (0.02 if whole_word else 0.005) * probability / 0.15


@pytest.mark.parametrize(("mask_share", "random_share"), [(0.8, 0.1), (0.5, 0.5), (1.0, 0.0), (0.0, 0.0)])
def test_what_becomes_of_them(tokenizer, rows, mask_share, random_share):
    found = masked(tokenizer, rows, mask_share=mask_share, random_share=random_share)
    seen = np.concatenate([row.input_ids[row.positions] for row in found])
    labels = np.concatenate([row.labels for row in found])
    is_mask, is_kept = seen == tokenizer.mask_token_id, seen == labels
    num_ordinary = len(tokenizer) - 5
    # A random token may be the one that stood there.
    num_random = int((~is_mask & ~is_kept).sum())
    assert within(int(is_mask.sum()), len(seen), mask_share)
    assert within(num_random, len(seen), random_share * (1 - 1 / num_ordinary))
    assert within(int(is_kept.sum()), len(seen), 1 - mask_share - random_share * (1 - 1 / num_ordinary))


def test_random_tokens_are_ordinary_and_any_of_them(tokenizer, rows):
    found = masked(tokenizer, rows, probability=0.5, mask_share=0.0, random_share=1.0)
    counts = np.bincount(np.concatenate([row.input_ids[row.positions] for row in found]), minlength=len(tokenizer))
    special = tokenizer.all_special_ids
    assert not counts[special].any()
    ordinary = np.delete(counts, special)
    expected = ordinary.sum() / len(ordinary)
    assert expected > 50
    assert np.abs(ordinary - expected).max() < 6 * np.sqrt(expected)


def test_every_ordinary_token_is_as_likely_as_any_other(tokenizer, rows):
    row = rows[0]
    counts = np.zeros(len(row))
    for epoch in range(2000):
        counts[masked(tokenizer, [row], epoch=epoch)[0].positions] += 1
    assert counts[0] == counts[-1] == 0
    assert all(within(count, 2000, 0.15) for count in counts[1:-1])


def test_the_rest_of_the_row_stays_and_labels_are_what_was_there(tokenizer, rows):
    for row, found in zip(rows, masked(tokenizer, rows), strict=True):
        assert (np.diff(found.positions) > 0).all()
        assert (row[found.positions] == found.labels).all()
        restored = found.input_ids.copy()
        restored[found.positions] = found.labels
        assert (restored == row).all()


def test_special_tokens_are_never_chosen(tokenizer):
    specials = np.array(tokenizer.all_special_ids, dtype=np.uint16)
    ordinary = np.array([tokenizer.convert_tokens_to_ids("t")] * 5, dtype=np.uint16)
    row = np.concatenate([specials, ordinary, specials])
    for epoch in range(50):
        (found,) = masked(tokenizer, [row], epoch=epoch, probability=0.9)
        assert ((found.positions >= len(specials)) & (found.positions < len(specials) + 5)).all()


def test_whole_words_are_never_split(tokenizer, rows):
    several = 0
    for row, found in zip(rows, masked(tokenizer, rows, whole_word=True), strict=True):
        chosen = set(found.positions.tolist())
        for word in words_of(tokenizer.convert_ids_to_tokens(row)):
            assert chosen.issuperset(word) or chosen.isdisjoint(word)
            several += len(word) > 1 and word[0] in chosen
    assert several > 500


def test_words_are_split_where_whole_words_are_not_asked_for(tokenizer, rows):
    found = masked(tokenizer, rows[:20])
    words = [(set(f.positions), word) for row, f in zip(rows, found, strict=False)
             for word in words_of(tokenizer.convert_ids_to_tokens(row))]  # fmt: skip
    assert any(not chosen.issuperset(word) and not chosen.isdisjoint(word) for chosen, word in words)


def test_a_piece_at_the_start_of_a_row_or_after_a_special_token_is_a_word(tokenizer):
    pieces = tokenizer.convert_tokens_to_ids(["[CLS]", "##e", "##e", "t", "##e", "[SEP]", "##e", "##e", "[SEP]"])
    row = np.array(pieces, dtype=np.uint16)
    allowed = [{1, 2}, {3, 4}, {6, 7}]
    seen = set()
    for epoch in range(100):
        positions = masked(tokenizer, [row], epoch=epoch, whole_word=True, probability=0.1)[0].positions.tolist()
        assert set(positions) in allowed
        seen.add(tuple(positions))
    assert seen == {(1, 2), (3, 4), (6, 7)}


@pytest.mark.parametrize("whole_word", [False, True])
def test_a_row_has_a_target_where_it_can(tokenizer, whole_word):
    first, last, some = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.convert_tokens_to_ids("t")
    short, empty = np.array([first, some, last]), np.array([first, last])
    for epoch in range(50):
        one, none = masked(tokenizer, [short, empty], epoch=epoch, whole_word=whole_word, probability=0.01)
        assert one.positions.tolist() == [1]
        assert none.positions.tolist() == none.labels.tolist() == []
        assert none.input_ids.tolist() == empty.tolist()


def test_the_row_is_a_function_of_the_generator_alone(tokenizer, rows):
    first, again = masked(tokenizer, rows[:5]), masked(tokenizer, rows[:5])
    np.random.seed(0)
    torch.manual_seed(0)
    later = masked(tokenizer, rows[:5])
    for one, two, three in zip(first, again, later, strict=True):
        assert (one.input_ids == two.input_ids).all()
        assert (one.input_ids == three.input_ids).all()
    assert any((one.input_ids != other.input_ids).any()
               for one, other in zip(first, masked(tokenizer, rows[:5], epoch=1), strict=True))  # fmt: skip


def test_batch_of_masked_rows(tokenizer, rows):
    short, long = rows[0][:9], rows[1][:12]
    found = masked(tokenizer, [short, long], probability=0.4)
    batch = collate_masked(found, pad_token_id=0)
    assert batch["input_ids"].shape == (2, 12)
    assert batch["attention_mask"].tolist() == [[1] * 9 + [0] * 3, [1] * 12]
    assert batch["input_ids"][0, 9:].tolist() == [0, 0, 0]
    clean = torch.zeros(2, 12, dtype=torch.long)
    clean[0, :9], clean[1] = torch.from_numpy(short.astype(np.int64)), torch.from_numpy(long.astype(np.int64))
    assert torch.equal(clean.flatten()[batch["masked_positions"]], batch["labels"])
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    untouched = torch.ones(24, dtype=torch.bool)
    untouched[batch["masked_positions"]] = False
    assert torch.equal(clean.flatten()[untouched], batch["input_ids"].flatten()[untouched])


def test_whole_words_need_pieces_that_say_so():
    tokenizer = character_tokenizer(["abc"], 10)
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    with pytest.raises(UserError, match=r"masking\.whole_word=true: .* does not mark the pieces that continue"):
        Masker(tokenizer, MaskingConfig(whole_word=True))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"probability": 0.0}, ("probability", "must be greater than 0 and less than 1")),
        ({"probability": 1.0}, ("probability", "must be greater than 0 and less than 1")),
        ({"probability": float("nan")}, ("probability", "must be greater than 0 and less than 1")),
        ({"mask_share": 1.1, "random_share": 0.0}, ("mask_share", "must be between 0 and 1")),
        ({"random_share": 0.3}, ("random_share", "must be at most 1 - mask_share, which is 0.8")),
    ],
)
def test_settings_that_cannot_be(settings, problem):
    assert problem in list(MaskingConfig(**settings).problems())


def test_default_settings_are_berts():
    config = MaskingConfig()
    assert (config.probability, config.mask_share, config.random_share, config.whole_word) == (0.15, 0.8, 0.1, False)
    assert not list(config.problems())
