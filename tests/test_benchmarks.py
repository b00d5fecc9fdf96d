"""The benchmarks: equal numerics of ours and the peers, honest batches, and what is printed and written."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification

from benchmarks import __main__ as command
from benchmarks import classification, continuation, memory, peers, recipes, rounds, training
from benchmarks.batches import full_batch, grouped_batches, padded, planned_batches, real_lengths
from benchmarks.models import IGNORED, SHAPES, Shape, subjects
from vanilla_recipes.data.tokenizers import train_encoder_tokenizer

SMALL = Shape(vocab_size=90, width=16, heads=2, inner=32, layers=1, length=24, dropout=0.0)
FAMILIES = list(SHAPES)
KERNELS = {"ours": ["eager"], "peers": ["eager"]}
STOCK = {"seq2seq": "Marian, eager", "masked_lm": "BERT, eager", "causal_lm": "GPT-2, eager"}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Small models, and results that go nowhere."""
    for module in (training, continuation, classification, memory):
        monkeypatch.setattr(module, "SHAPES", dict.fromkeys(FAMILIES, SMALL), raising=False)
    for name, value in {"ROWS": 64, "BATCH_SIZE": 8}.items():
        monkeypatch.setattr(training, name, value)
    monkeypatch.setattr(continuation, "PROMPT", 4)
    monkeypatch.setattr(continuation, "NEW", 6)
    monkeypatch.setattr(rounds, "RESULTS", tmp_path)
    monkeypatch.setattr(rounds, "matrix_rate", lambda *arguments: 1e9)
    monkeypatch.setattr(command, "keep_memory_and_kernels", lambda: None)
    return tmp_path


@pytest.mark.parametrize("is_real", [False, True], ids=["full", "real"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ours_and_the_stock_model_have_the_same_loss_and_gradients(family, is_real):
    built = subjects(family, SMALL, KERNELS)
    ours, theirs = built["ours, eager"](), built[STOCK[family]]()
    lengths = real_lengths(family, 6, SMALL.length)
    batch = padded(family, SMALL.vocab_size, lengths, np.random.default_rng(1)) if is_real else None
    batch = batch or full_batch(family, SMALL.vocab_size, 3, 7)
    losses = [subject.loss(batch) for subject in (ours, theirs)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    for loss in losses:
        loss.backward()
    norms = [
        torch.nn.utils.clip_grad_norm_(subject.model.parameters(), 1e9) for subject in (ours, theirs)
    ]  # the names of the weights differ
    torch.testing.assert_close(*norms, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_in_groups_is_the_step_of_the_whole_batch(family, monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", lambda parameters, **options: torch.optim.SGD(parameters, lr=1.0))
    batch = padded(family, SMALL.vocab_size, real_lengths(family, 7, SMALL.length), np.random.default_rng(1))
    subject, twin = (subjects(family, SMALL, KERNELS)["ours, eager"]() for _ in range(2))
    before = torch.nn.utils.parameters_to_vector(subject.model.parameters())
    training.training_step(subject, "fp32")(batch)
    training.training_step_in_groups(twin, "fp32", 2)(batch)
    steps = [torch.nn.utils.parameters_to_vector(each.model.parameters()) - before for each in (subject, twin)]
    assert steps[0].abs().max() > 0.01
    torch.testing.assert_close(steps[1], steps[0], rtol=1e-5, atol=1e-5)


def test_the_other_encoder_decoders_learn_the_same_task():
    batch = full_batch("seq2seq", SMALL.vocab_size, 2, 5)
    for name in ("torch.nn.Transformer", "x-transformers"):
        subject = subjects("seq2seq", SMALL, KERNELS)[name]()
        step = training.training_step(subject, "fp32")
        first = subject.loss(batch).item()
        for _ in range(60):
            step(batch)
        assert subject.loss(batch).item() < first


@pytest.mark.parametrize("family", FAMILIES)
def test_both_kinds_of_batches_have_every_row_once(family):
    lengths = real_lengths(family, 200, 24)
    for batches in (grouped_batches(lengths, 8), planned_batches(lengths, 256)):
        assert sorted(np.concatenate(batches)) == list(range(200))
    batch = padded(family, 90, lengths[:5], np.random.default_rng(0))
    assert batch["attention_mask"].sum(1).tolist() == lengths[:5, 0].tolist()
    targets = batch["labels"].ne(IGNORED).sum(1)
    if family == "masked_lm":
        assert 0 < int(targets.sum()) < 0.5 * int(lengths[:5].sum())
    else:
        assert targets.tolist() == lengths[:5, -1].tolist()


def test_ratios_are_of_rates_and_shares_of_the_matrix_rate(monkeypatch):
    monkeypatch.setattr(rounds, "matrix_rate", lambda *arguments: 100.0)
    monkeypatch.setattr(rounds, "alternate", lambda *arguments: {"ours": [1.0, 2.0, 4.0], "peer": [3.0, 4.0, 4.0]})
    works = {"ours": print, "peer": print}
    found = rounds.compare(
        "work", "rows", works, {"ours": 8, "peer": 4}, "fp32", 3, torch.device("cpu"), {"ours": 50.0}, {"other": "why"}
    )
    assert found.subjects["ours"].rate == 4.0
    assert found.subjects["peer"].rate == 1.0
    assert found.subjects["peer"].first_is_faster == (2.0, 4.0, 6.0)
    assert found.subjects["ours"].matrix_share == 0.25
    assert "other" in str(found)
    assert "did not run: why" in str(found)


def test_the_command_writes_what_it_prints(small, capsys):
    command.main(
        [
            "step",
            "real",
            "continuation",
            "classification",
            "decoding",
            "--rounds",
            "1",
            "--steps",
            "1",
            "--size",
            "2",
            "5",
        ]
    )
    printed = capsys.readouterr().out
    for name in ("Marian", "BERT", "ModernBERT", "GPT-2", "nanoGPT", "torch.nn.Transformer", "x-transformers"):
        assert name in printed
    assert "decoding did not run: --model" in printed
    assert "872 of 872 classes equal" in printed
    assert "32 of 32 rows equal" in printed
    reports = {path.name.split("_")[0]: json.loads(path.read_text()) for path in small.iterdir()}
    assert set(reports) == {"step", "real", "continuation", "classification"}
    for report in reports.values():
        assert {"date", "machine", "versions", "settings", "results"} <= report.keys()
        assert all(each["matrix_tflops"] == 0.001 for each in report["results"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--groups", "0"], "--groups 0: must be from 1 to "),
        (["--groups", "2", "--size", "1", "5"], "--groups 2: must be from 1 to 1 for 1 rows on cpu"),
        (["--groups", "2", "--size", "2", "5", "--attention", "sdpa"], "--groups: this kernel's dropout is torch's"),
    ],
    ids=["none", "more than rows", "dropout of torch"],
)
def test_groups_that_recipes_would_not_compute_side_by_side_are_refused(words, message, small, monkeypatch, capsys):
    with_dropout = replace(SMALL, dropout=0.1)
    monkeypatch.setattr(training, "SHAPES", dict.fromkeys(FAMILIES, with_dropout))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    command.main(["step", "--family", "causal_lm", "--precision", "fp32", *words])
    assert f"step did not run: {message}" in capsys.readouterr().out
    assert not list(small.iterdir())


def test_an_unknown_task_is_named(capsys):
    with pytest.raises(SystemExit):
        command.main(["stepp"])
    assert "stepp: there is no such task; there are step, real" in capsys.readouterr().err


def test_the_time_to_a_score_is_the_shortest_that_always_reaches_it(monkeypatch, tmp_path, capsys):
    scores = {(300, 1): 36.5, (300, 2): 35.0, (450, 1): 37.0, (450, 2): 36.0, (600, 1): 38.0, (600, 2): 38.5}
    monkeypatch.setattr(
        recipes, "ours", lambda recipe, data, time, seed: recipes.Run(time, scores[time, seed], 9000.0, 0.03)
    )
    monkeypatch.setattr(recipes, "theirs", lambda *arguments: recipes.Run(600, 36.0, 6000.0, 0.16))
    monkeypatch.setattr(rounds, "RESULTS", tmp_path)
    words = ["recipe", "--data", str(tmp_path), "--shares", "0.5", "0.75", "--races", "2", "--peer-attention", "eager"]
    command.main(words)
    found = json.loads(next(tmp_path.glob("recipe_multi30k_*")).read_text())["results"][0]
    assert found["speed_ratio"] == [1.5, 1.5, 1.5]
    assert found["seconds_to_peer_score"] == 450
    assert [run["score"] for run in found["runs"]["ours, 300 s"]] == [36.5, 35.0]
    assert "Seq2SeqTrainer and Marian, eager, 600 s" in found["runs"]
    assert "the peer's score takes ours 450 s at most" in capsys.readouterr().out


def test_the_peers_accuracy_is_told_as_ours_is():
    tokenizer = train_encoder_tokenizer(["good film", "bad film"] * 20, 100, 16)
    model = BertForSequenceClassification(
        BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).eval()
    model.classifier.bias.data = torch.tensor([-100.0, 100.0])  # always the second class
    encoded = tokenizer(["good film"] * 70)
    columns = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "label": [1, 0] * 35}
    rows = Dataset.from_dict(columns)
    assert peers.accuracy(model, tokenizer, rows) == {"accuracy": 0.5}


def test_no_race_is_written_over_another(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "ours", lambda recipe, data, time, seed: recipes.Run(time, 50.0, 9000.0, 0.03))
    monkeypatch.setattr(recipes, "theirs", lambda *arguments: recipes.Run(600, 36.0, 6000.0, 0.16))
    monkeypatch.setattr(rounds, "RESULTS", tmp_path / "results")
    for recipe in recipes.RECIPES:
        command.main(["recipe", "--data", str(tmp_path), "--recipe", recipe])
    names = sorted(path.name.rsplit("_", 1)[0] for path in (tmp_path / "results").iterdir())
    assert names == ["recipe_multi30k", "recipe_sst2"]


@pytest.mark.slow
def test_a_recipe_and_its_peer_train_and_are_scored(tmp_path):
    words = ["a", "man", "two", "dogs", "in", "the", "red", "blue", "house", "runs", "plays", "with", "on", "street"]
    generator = np.random.default_rng(0)
    for split, count in {"train": 300, "validation": 20, "test": 20}.items():
        sources = [" ".join(generator.choice(words, 6)) for _ in range(count)]
        rows = [json.dumps({"en": source, "de": source.upper()}) for source in sources]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    arguments = command.parser().parse_args(
        ["recipe", "--data", str(tmp_path), "--seconds", "6", "--peer-attention", "eager"]
    )
    race = recipes.races(arguments, torch.device("cpu"))[0]
    assert list(race.runs) == ["ours, 6 s", "ours, 3 s", "Seq2SeqTrainer and Marian, eager, 6 s"]
    for name, (run,) in race.runs.items():
        assert 0 <= run.score <= 100, name
        assert run.tokens_per_second > 0
        assert 0 <= run.padding < 0.5
    assert race.speed_ratio[0] > 0


@pytest.mark.slow
def test_memory_and_processes_of_their_own(small, monkeypatch, capsys):
    monkeypatch.setattr(memory, "VOCAB_SIZE", 4000)
    monkeypatch.setattr(memory, "SHAPES", dict.fromkeys(FAMILIES, replace(SMALL, length=64)))
    command.main(["memory", "--precision", "fp32"])
    report = json.loads(next(small.glob("memory_*")).read_text())
    megabytes = report["results"][0]["megabytes"]
    assert 0 < megabytes["ours"] < megabytes["Marian"]
    command.main(
        [
            "step",
            "--apart",
            "--family",
            "causal_lm",
            "--precision",
            "fp32",
            "--rounds",
            "1",
            "--steps",
            "1",
            "--size",
            "2",
            "5",
        ]
    )
    assert "a process each" in capsys.readouterr().out
    assert list(small.glob("step_2x5_apart_*"))
