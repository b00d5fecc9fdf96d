"""Runs that are killed with kill -9 again and again, and go on each time: losses, scores and weights are bit for bit
those of a run that was left alone, for all ways in which the recipes read, change and batch their rows."""

import dataclasses
import json
from pathlib import Path

import pytest
from killed_runs import Kind, check_kills, losses, rows, run

NUM_STEPS = 40
COMMON = [
    "resume=if_available",
    f"max_duration={NUM_STEPS} steps",
    "log_every=1 steps",
    "schedule.name=constant",
    "schedule.warmup=10 steps",
    "precision=fp32",
    "checkpoint.every=5 steps",
    "evaluation.every=10 steps",
    "evaluation.max_rows=4",
    "data.num_train_rows=120",
    "data.num_validation_rows=4",
    "data.num_test_rows=4",
    "batch.tokens=1500",  # two to seven steps an epoch
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.hidden_dropout_prob=0.1",
]
LAYER = ["model.num_hidden_layers=1"]
TRANSLATION = [
    "translation/toy", *COMMON, "tokenizer.vocab_size=400", "model.encoder_layers=1", "model.decoder_layers=1",
    "evaluation.metric=loss", "generation.num_beams=1",
]  # fmt: skip
CLASSIFICATION = ["classification/toy", *COMMON, *LAYER, "tokenizer.vocab_size=300", "data.test_split=test"]
GENERATION = [
    "generation/toy", *COMMON, *LAYER, "tokenizer.vocab_size=400", "data.block_size=64", "generation.prompts=[The]",
    "generation.max_new_tokens=4",
]  # fmt: skip
MASKED_LM = ["masked_lm/toy", *COMMON, *LAYER, "tokenizer.vocab_size=300", "data.block_size=64"]
EMA = ["averaging.ema_decay=0.9"]
PACKED = ["batch.packing=true", "batch.pack_length=128"]
DOCUMENTS = ["data.layout=documents"]
STREAMED = ["data.streaming=true", "data.segment_rows=10", "data.num_train_rows=35"]  # steps: one or two a segment
HIDDEN_WORDS = ["augmentation.word_dropout=0.2", "augmentation.target_word_dropout=0.2", "augmentation.reversal=0.3"]
CHANGED_WORDS = [
    f"augmentation.{change}" for change in ("swap=0.1", "deletion=0.1", "word_dropout=0.1", "subword_dropout=0.1")
]


def write_pairs(folder: Path) -> list[str]:
    return write_rows(folder, [
        {"en": f"The dog sees {n} men{' and more' * (n % 4)}.", "de": f"Der Hund sieht {n} Männer."} for n in range(120)
    ])  # fmt: skip


def write_answers(folder: Path) -> list[str]:
    return write_rows(folder, [{"question": f"{n} + 1 =", "answer": f" {n + 1}"} for n in range(120)])


def write_rows(folder: Path, rows: list[dict]) -> list[str]:
    data = folder / "data"
    data.mkdir()
    lines = [json.dumps(row) for row in rows]
    for split, part in {"train": lines, "validation": lines[:20], "test": lines[20:40]}.items():
        (data / f"{split}.jsonl").write_text("\n".join(part))
    return [f"data.path={data}"]


def train_base(folder: Path) -> list[str]:
    short = ["max_duration=2 steps", "checkpoint.every=null"]
    assert run(folder / "base", "translation", [*TRANSLATION, *short])
    return [f"model.pretrained={folder / 'base' / 'final'}"]


KINDS = {
    "translation": Kind("translation", [*TRANSLATION, *EMA]),
    "translation, packed": Kind("translation", [*TRANSLATION, *PACKED]),
    "translation, augmented": Kind("translation", [*TRANSLATION, *HIDDEN_WORDS, *EMA]),
    "translation, streamed": Kind("translation", [*TRANSLATION, *STREAMED, *HIDDEN_WORDS], write_pairs),
    "translation, adapted": Kind("translation", [*TRANSLATION, "peft.r=4", "peft.dropout=0.1", *EMA], train_base),
    "classification": Kind("classification", [*CLASSIFICATION, "batch.micro_batches=2", "averaging.checkpoints=3"]),
    "classification, augmented": Kind("classification", [*CLASSIFICATION, *CHANGED_WORDS]),
    "generation": Kind("generation", [*GENERATION, "precision=bf16"]),
    "generation, packed": Kind("generation", [*GENERATION, *DOCUMENTS, *PACKED]),
    "generation, answers": Kind(
        "generation",
        [*GENERATION, *DOCUMENTS, "data.prompt_field=question", "data.completion_field=answer"],
        write_answers,
    ),
    "generation, streamed": Kind("generation", [*GENERATION, *STREAMED]),
    "masked_lm": Kind("masked_lm", [*MASKED_LM, "masking.whole_word=true", *EMA]),
    "masked_lm, packed": Kind("masked_lm", [*MASKED_LM, *DOCUMENTS, *PACKED]),
    "masked_lm, streamed": Kind("masked_lm", [*MASKED_LM, *STREAMED]),
}
QUICK = ["translation, augmented", "classification, augmented", "generation, streamed", "masked_lm"]
SHORT = [f"max_duration={NUM_STEPS // 2} steps"]


def test_every_recipe_is_killed():
    assert {KINDS[name].recipe for name in QUICK} == {kind.recipe for kind in KINDS.values()}


@pytest.mark.parametrize("name", QUICK)
def test_killed_runs_go_on_bit_for_bit(tmp_path, name):
    kind = KINDS[name]
    check_kills(tmp_path, dataclasses.replace(kind, settings=[*kind.settings, *SHORT]), num_kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_kills_of_one_process(tmp_path, name):
    check_kills(tmp_path, KINDS[name], num_kills=5)  # 70 in all


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_kills_of_two_processes(tmp_path, name):
    check_kills(tmp_path, KINDS[name], num_kills=2, num_processes=2)  # 28 in all


@pytest.mark.parametrize(
    "name",
    ["masked_lm", *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("translation, packed", "translation, streamed", "classification, augmented", "generation, answers")
    )],
)  # fmt: skip
def test_two_processes_go_on_with_the_rows_of_one(tmp_path, name):
    kind = KINDS[name]
    # Dropout is drawn for each process; without it, equal losses show that the rows are masked and changed alike.
    arguments = [*kind.settings, *SHORT, "model.hidden_dropout_prob=0", *kind.prepare(tmp_path)]
    assert run(tmp_path / "one", kind.recipe, arguments)
    assert run(tmp_path / "changed", kind.recipe, [*arguments, "max_duration=10 steps"])
    assert run(tmp_path / "changed", kind.recipe, arguments, num_processes=2)
    alone = rows(tmp_path / "one")
    first, second = (rows(tmp_path / "changed", rank) for rank in (0, 1))
    assert first[:10] == alone[:10]
    assert first[10:] == [batch[0::2] for batch in alone[10:]]
    assert second == [batch[1::2] or batch[:1] for batch in alone[10:]]  # a filler of no weight
    assert len(alone) == NUM_STEPS // 2
    assert losses(tmp_path / "changed") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
