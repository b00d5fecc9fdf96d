"""The masked-language-modelling recipe, end to end on a few rows, and its configurations."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from vanilla_recipes.errors import UserError
from vanilla_recipes.masked_lm import MaskedLMExperiment, main, setup
from vanilla_recipes.packaged import packaged_configs
from vanilla_recipes.settings.config_files import load_experiment

CONFIGS = [name for name in packaged_configs() if name.startswith("masked_lm/")]
TINY = [
    "max_duration=6 steps",
    "evaluation.every=3 steps",
    "checkpoint.every=4 steps",
    "log_every=1 steps",
    "precision=fp32",
    "data.num_train_rows=60",
    "data.num_validation_rows=8",
    "data.num_test_rows=6",
    "data.test_split=test",
    "data.block_size=32",
    "tokenizer.vocab_size=200",
    "batch.tokens=300",
    "schedule.name=constant",
    "schedule.warmup=null",
    "model.hidden_size=16",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.hidden_dropout_prob=0.1",
]


def run(folder: Path, *overrides: str) -> Path:
    assert main(["masked_lm/toy", *TINY, *overrides, f"output_dir={folder}"]) == 0
    return folder


def task_of(*overrides: str):
    return setup(load_experiment(MaskedLMExperiment, "masked_lm/toy", [*TINY, *overrides]))


def records_of(folder: Path, name: str) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if name in record]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """The folder of a run of six steps."""
    return run(tmp_path_factory.mktemp("masked_lm") / "run")


def write_texts(folder: Path, num_rows: int = 60) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        texts = [" ".join(generator.choice(["red", "green", "blue", "black"], 12)) for _ in range(num_rows)]
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))


# What a run leaves


def test_metrics_and_results(run_folder):
    assert [record["step"] for record in records_of(run_folder, "loss")] == [1, 2, 3, 4, 5, 6]
    scored = records_of(run_folder, "validation_accuracy")
    assert [record["step"] for record in scored] == [3, 6]
    assert scored[0]["validation_perplexity"] == pytest.approx(math.exp(scored[0]["validation_loss"]))
    results = json.loads((run_folder / "results.json").read_text())
    assert results["masking"] == {"probability": 0.3, "mask_share": 0.8, "random_share": 0.1, "whole_word": False}
    assert {"rows", "loss", "perplexity", "accuracy"} == results["test"].keys()


def test_loss_begins_where_chance_does(run_folder):
    assert records_of(run_folder, "loss")[0]["loss"] == pytest.approx(math.log(200), abs=0.3)


def test_model_fills_masks(run_folder):
    fill = pipeline("fill-mask", model=str(run_folder / "best"))
    answers = fill("Once upon a [MASK], there was a little girl.", top_k=3)
    assert len(answers) == 3
    assert answers[0]["sequence"].startswith("Once upon a")  # six steps do not tell which word, or part of one, follows
    assert answers[0]["sequence"].endswith(" , there was a little girl .")


def test_model_loads_through_every_auto_class(run_folder, caplog):
    masked_lm = AutoModelForMaskedLM.from_pretrained(run_folder / "final")
    base, loading = AutoModel.from_pretrained(run_folder / "final", output_loading_info=True)
    assert not loading["missing_keys"]
    for name, tensor in base.state_dict().items():
        assert torch.equal(tensor, masked_lm.state_dict()[f"model.{name}"])
    classifier, loading = AutoModelForSequenceClassification.from_pretrained(
        run_folder / "final", num_labels=3, output_loading_info=True
    )
    assert set(loading["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    for name, tensor in base.state_dict().items():
        assert torch.equal(tensor, classifier.state_dict()[f"model.{name}"])
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "final")
    assert classifier(**tokenizer("a little girl", return_tensors="pt")).logits.shape == (1, 3)


def test_goes_on_from_a_saved_model(run_folder, tmp_path):
    saved = run_folder / "final"
    run(tmp_path / "run", f"model.pretrained={saved}", "max_duration=1 steps", "optimizer.learning_rate=1e-30")
    before, after = (AutoModelForMaskedLM.from_pretrained(folder) for folder in (saved, tmp_path / "run" / "final"))
    assert all(torch.equal(tensor, after.state_dict()[name]) for name, tensor in before.state_dict().items())


def test_takes_a_saved_tokenizer(run_folder, tmp_path):
    write_texts(tmp_path)
    saved = AutoTokenizer.from_pretrained(run_folder / "best").get_vocab()
    task = task_of(f"data.path={tmp_path}", f"tokenizer.name={run_folder / 'best'}")
    task.save_model(task.model, tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == saved
    assert task.model.config.vocab_size == len(saved)


def test_a_classifier_starts_from_it(run_folder, tmp_path):
    from vanilla_recipes import classification

    settings = [
        "max_duration=1 steps", "optimizer.learning_rate=1e-30", "data.num_train_rows=50", "data.num_validation_rows=8",
        "data.test_split=null", "tokenizer.max_length=32", "batch.tokens=300", "precision=fp32",
    ]  # fmt: skip
    folder = tmp_path / "run"
    arguments = [*settings, f"model.pretrained={run_folder / 'best'}", f"output_dir={folder}"]
    assert classification.main(["classification/toy", *arguments]) == 0
    before = AutoModel.from_pretrained(run_folder / "best").state_dict()
    after = AutoModelForSequenceClassification.from_pretrained(folder / "final").model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


# What is masked


def flat_rows(batch) -> list[list[int]]:
    return [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]


def test_a_row_is_masked_alike_in_every_batch():
    task = task_of("data.layout=documents", "data.block_size=128", "batch.tokens=2048")
    together = task.make_batch(np.array([3, 11, 5]), 2)
    alone = [task.make_batch(np.array([row]), 2) for row in (3, 11, 5)]
    assert flat_rows(together) == [flat_rows(batch)[0] for batch in alone]
    assert together["labels"].tolist() == [label for batch in alone for label in batch["labels"].tolist()]
    assert flat_rows(task.make_batch(np.array([3]), 3)) != flat_rows(alone[0])
    assert flat_rows(task_of("seed=2").make_batch(np.array([3]), 2)) != flat_rows(alone[0])


def test_validation_rows_are_masked_alike_in_every_run(tmp_path):
    write_texts(tmp_path)
    first, second = (task_of(f"data.path={tmp_path}", f"seed={seed}") for seed in (1, 2))
    rows = np.arange(len(first.validation.lengths))
    model = first.model.eval()
    assert first.validation.predict(model, rows) == first.validation.predict(model, rows)
    expected = first.validation.predict(model, rows)
    other = second.validation.predict(model, rows)
    assert [record.num_targets for record in other] == [record.num_targets for record in expected]
    assert [record.loss for record in other] == pytest.approx([record.loss for record in expected], rel=1e-6)


def test_scores_do_not_depend_on_the_batches(tmp_path):
    write_texts(tmp_path)
    task = task_of(f"data.path={tmp_path}", "data.layout=documents")
    model = task.model.eval()
    rows = np.arange(len(task.validation.lengths))
    together = task.validation.predict(model, rows)
    alone = [task.validation.predict(model, rows[number : number + 1])[0] for number in rows]
    assert [record.loss for record in together] == pytest.approx([record.loss for record in alone], rel=1e-5)
    assert [record[1:] for record in together] == [record[1:] for record in alone]


def test_training_does_not_depend_on_how_a_batch_is_cut(run_folder, tmp_path):
    whole = run(tmp_path / "whole", "model.hidden_dropout_prob=0", "model.attention_probs_dropout_prob=0")
    cut = run(
        tmp_path / "cut", "batch.micro_batches=3", "model.hidden_dropout_prob=0", "model.attention_probs_dropout_prob=0"
    )
    losses, norms = ([[record[name] for record in records_of(folder, "loss")] for folder in (whole, cut)]
                     for name in ("loss", "grad_norm"))  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_a_resumed_run_is_the_same_bit_for_bit(run_folder, tmp_path):
    folder = run(tmp_path / "run", "max_duration=4 steps")
    run(folder, "resume=always")
    assert [record["loss"] for record in records_of(folder, "loss")] == [
        record["loss"] for record in records_of(run_folder, "loss")
    ]
    first, second = (AutoModelForMaskedLM.from_pretrained(path / "final").state_dict() for path in (run_folder, folder))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


# Bad input


def test_refuses_to_go_on_with_other_texts(tmp_path):
    write_texts(tmp_path)
    folder = run(tmp_path / "run", f"data.path={tmp_path}", "max_duration=4 steps")
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join(lines[::-1]))
    with pytest.raises(UserError, match="the training data, the validation data or the tokenizer differ"):
        run(folder, f"data.path={tmp_path}", "resume=always")


def test_refuses_another_masking_on_resume(tmp_path):
    folder = run(tmp_path / "run", "max_duration=4 steps")
    with pytest.raises(UserError, match=r"masking\.probability"):
        run(folder, "masking.probability=0.15", "resume=always")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("masking.probability=0", r"masking\.probability=0.0 .*: must be greater than 0 and less than 1"),
        ("masking.random_share=0.5", r"masking\.random_share=0.5 .*: must be at most 1 - mask_share, which is 0.8"),
        ("masking.whole_words=true", r"there is no such key; did you mean masking\.whole_word\?"),
        ("data.block_size=2", r"data\.block_size=2 .*: must be 3 or greater: \[CLS\] and \[SEP\] take two tokens"),
        ("data.block_size=256", r"data\.block_size=256: the model has learned positions for 128 tokens; lower it"),
        ("data.text_field=body", "no 'body' in this row, which has text; name one of these with data.text_field="),
        ("tokenizer.vocab_size=20", r"tokenizer\.vocab_size=20 is too small"),
        ("tokenizer.num_texts=0", r"tokenizer\.num_texts=0 .*: must be 1 or greater, or null for all texts"),
        ("model.hidden_size=30", "model: hidden_size is 30, which num_attention_heads 4 does not divide"),
        ("model.use_cache=true", r"model\.use_cache .*: there is no such key"),
    ],
)
def test_wrong_settings_are_one_clear_line(tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        main(["masked_lm/toy", "data.num_train_rows=60", f"output_dir={tmp_path / 'run'}", override])
    assert not (tmp_path / "run").exists()


def test_refuses_tokenizers_that_cannot_serve(tmp_path, run_folder):
    from vanilla_recipes.data.tokenizers import save_tokenizer, train_decoder_tokenizer

    save_tokenizer(train_decoder_tokenizer(["a b c"] * 9, 300, 64), tmp_path / "decoder")
    with pytest.raises(UserError, match="has no cls_token and no sep_token and no mask_token, which masked language"):
        task_of(f"tokenizer.name={tmp_path / 'decoder'}")
    message = r"tokenizer\.name=.*none: there is no such folder"
    with pytest.raises(UserError, match=message):
        task_of(f"tokenizer.name={tmp_path / 'none'}")
    (tmp_path / "empty").mkdir()
    message = r"tokenizer\.name=.*empty: the tokenizer \(tokenizer.json and tokenizer_config.json\) is missing"
    with pytest.raises(UserError, match=message):
        task_of(f"tokenizer.name={tmp_path / 'empty'}")
    message = r"tokenizer\.name=.*: must be null with model\.pretrained, whose tokenizer is used"
    with pytest.raises(UserError, match=message):
        task_of(f"tokenizer.name={run_folder / 'best'}", f"model.pretrained={run_folder / 'best'}")


# Configurations


def test_there_are_configs():
    assert {"masked_lm/toy", "masked_lm/novels", "masked_lm/wikipedia"} <= set(CONFIGS)
