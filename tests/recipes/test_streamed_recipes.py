"""A run on a stream goes on exactly where it was killed, within a segment and between two."""

import json

import pytest
import torch
from safetensors.torch import load_file

from vanilla_recipes import generation, masked_lm, translation
from vanilla_recipes.engine.loop import Loop
from vanilla_recipes.errors import UserError
from vanilla_recipes.reports.metrics import MetricsLog

TINY = [
    "data.num_validation_rows=10",
    "data.test_split=null",
    "data.streaming=true",
    "data.segment_rows=40",
    "precision=fp32",
    "batch.tokens=500",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "evaluation.every=null",
    "checkpoint.every=1 steps",
    "log_every=1 steps",
    "max_duration=20 steps",
]
OWN = {
    translation: ["translation/toy", "tokenizer.vocab_size=500", "model.encoder_layers=1", "model.decoder_layers=1"],
    masked_lm: ["masked_lm/toy", "data.num_train_rows=100", "tokenizer.vocab_size=300", "model.num_hidden_layers=1"],
    generation: ["generation/toy", "data.num_train_rows=100", "tokenizer.vocab_size=400", "model.num_hidden_layers=1"],
}


class KilledError(Exception):
    """Stands for a process that ends between two instructions."""


@pytest.fixture(autouse=True)
def without_plots(monkeypatch):
    monkeypatch.setattr(MetricsLog, "draw", lambda log: None)


@pytest.fixture
def files(tmp_path):
    """100 pairs, which are two and a half segments."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [
        json.dumps({"en": f"The dog sees {n} men{' and more' * (n % 4)}.", "de": f"Der Hund sieht {n} Männer."})
        for n in range(100)
    ]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return folder


def run(recipe, folder, *overrides):
    assert recipe.main([*OWN[recipe], *TINY, *overrides, f"output_dir={folder}"]) == 0


def outcome(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {record["step"]: (record["loss"], record["tokens"]) for record in records if "loss" in record}
    return losses, load_file(folder / "final" / "model.safetensors")


def kill_in_step(monkeypatch, number):
    step = Loop._step

    def killed(loop):
        if loop.state.global_step == number:
            raise KilledError
        return step(loop)

    monkeypatch.setattr(Loop, "_step", killed)


def segment_ends(folder):
    """The steps that end a segment."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["step"] for record in records if "loss" in record and float(record["epoch"]).is_integer()]


def check_kills(recipe, tmp_path, monkeypatch, *overrides):
    run(recipe, tmp_path / "straight", *overrides)
    losses, weights = outcome(tmp_path / "straight")
    ends = segment_ends(tmp_path / "straight")
    assert len(ends) >= 3  # the stream has begun again
    for number in (ends[0], ends[0] + 1, ends[2]):
        folder = tmp_path / f"killed-{number}"
        with monkeypatch.context() as patched:
            kill_in_step(patched, number)
            with pytest.raises(KilledError):
                run(recipe, folder, *overrides)
        run(recipe, folder, *overrides, "resume=always")
        found_losses, found_weights = outcome(folder)
        assert found_losses == losses
        assert all(torch.equal(found_weights[name], weights[name]) for name in weights)


def test_translation_goes_on_exactly(tmp_path, files, monkeypatch):
    check_kills(translation, tmp_path, monkeypatch, f"data.path={files}")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [masked_lm, generation])
def test_language_models_go_on_exactly(recipe, tmp_path, monkeypatch):
    documents = ["data.layout=documents", "data.block_size=64", "batch.tokens=1000"]
    check_kills(recipe, tmp_path, monkeypatch, *documents)


def test_a_bad_row_far_on_stops_the_run_when_it_is_met_and_can_be_mended(tmp_path, files):
    run(translation, tmp_path / "straight", f"data.path={files}")
    whole = (files / "train.jsonl").read_text()
    lines = whole.splitlines()
    lines[85] = '{"en": "The dog'
    (files / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"train\.jsonl:86: broken JSON at character"):
        run(translation, tmp_path / "run", f"data.path={files}")
    (files / "train.jsonl").write_text(whole)
    run(translation, tmp_path / "run", f"data.path={files}", "resume=always")
    assert outcome(tmp_path / "run")[0] == outcome(tmp_path / "straight")[0]


def test_refuses_to_go_on_with_another_first_segment(tmp_path, files):
    run(translation, tmp_path / "run", f"data.path={files}", "max_duration=2 steps")
    lines = (files / "train.jsonl").read_text().splitlines()
    (files / "train.jsonl").write_text("\n".join(lines[1:]))
    with pytest.raises(
        UserError, match=r"resume: the training data, the validation data or the tokenizer differ from those that"
    ):
        run(translation, tmp_path / "run", f"data.path={files}", "resume=always")


def test_refuses_a_duration_in_epochs():
    message = r"max_duration=.2 epochs. .*must be in steps, tokens or time with data\.streaming=true, where an epoch is"
    with pytest.raises(UserError, match=message):
        translation.main([*OWN[translation], *TINY, "max_duration=2 epochs"])


def test_packed_streams(tmp_path, files):
    run(translation, tmp_path / "run", f"data.path={files}", "batch.packing=true", "batch.pack_length=100")
    assert len(segment_ends(tmp_path / "run")) >= 3
