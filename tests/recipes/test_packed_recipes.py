"""What packing promises in the recipes: loss and gradients of packed rows are those of the same rows padded."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from vanilla_recipes import classification, generation, masked_lm, translation
from vanilla_recipes.engine.plan import Plan
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.attention_kernel import set_attention
from vanilla_recipes.settings.config_files import load_experiment
from vanilla_transformers.fast import packed_kernel as varlen

TINY = [
    "data.num_train_rows=200",
    "data.num_validation_rows=10",
    "data.test_split=null",
    "precision=fp32",
    "batch.tokens=400",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.hidden_dropout_prob=0",
    "tokenizer.vocab_size=500",
    "max_duration=1 steps",
    "log_every=1 steps",
]
LAYERS = ["model.encoder_layers=1", "model.decoder_layers=1"]
DOCUMENTS = ["data.layout=documents", "data.block_size=96", "model.num_hidden_layers=1"]
PACKED = ["batch.packing=true", "batch.pack_length=128"]
TASKS = {
    "translation": (translation, translation.TranslationExperiment, LAYERS),
    "generation": (generation, generation.GenerationExperiment, DOCUMENTS),
    "masked_lm": (masked_lm, masked_lm.MaskedLMExperiment, DOCUMENTS),
}


def make_task(name, *overrides):
    recipe, experiment_class, own = TASKS[name]
    experiment = load_experiment(experiment_class, f"{name}/toy", [*TINY, *own, *overrides])
    task = recipe.setup(experiment)
    set_attention(task.model, experiment, torch.device("cpu"))
    return task


def loss_and_gradients(task, batch):
    task.model.zero_grad()
    loss = task.model(**batch, num_items_in_batch=torch.tensor(task.num_targets(batch))).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in task.model.named_parameters()}


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("name", TASKS)
def test_packed_equals_padded(name, kernel):
    padded, packed = make_task(name), make_task(name, *PACKED, f"attention={kernel}")
    for rows in Plan(padded.lengths, 800, 1, packed=True, pack_length=128).groups(0)[:3]:
        batch = packed.make_batch(rows, 0)
        assert "attention_mask" not in batch
        assert batch["input_ids"].shape[0] > 1
        assert packed.num_targets(batch) == padded.num_targets(padded.make_batch(rows, 0))
        expected, gradients = loss_and_gradients(padded, padded.make_batch(rows, 0))
        loss, found = loss_and_gradients(packed, batch)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        for parameter, gradient in found.items():
            torch.testing.assert_close(gradient, gradients[parameter], rtol=1e-5, atol=1e-5)


@pytest.mark.fast
@pytest.mark.parametrize("pack_length", ["128", "null"])
@pytest.mark.parametrize("name", TASKS)
def test_packed_equals_padded_with_a_kernel_that_takes_lengths(name, pack_length, monkeypatch):
    calls = put_loop_in_place_of_kernel(monkeypatch)
    padded = make_task(name)
    packed = make_task(name, "batch.packing=true", f"batch.pack_length={pack_length}", "attention=torch_varlen")
    rows = Plan(padded.lengths, 800, 1, packed=True).groups(0)[0]
    expected, gradients = loss_and_gradients(padded, padded.make_batch(rows, 0))
    assert not calls
    loss, found = loss_and_gradients(packed, packed.make_batch(rows, 0))
    assert calls
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, gradients[parameter], rtol=1e-5, atol=1e-5)


def put_loop_in_place_of_kernel(monkeypatch):
    """torch's attention on each sequence, for `varlen_attn`, which runs on some GPUs only; lists the sequences."""
    calls = []

    def loop(query, key, value, ends_q, ends_k, max_q, max_k, *, scale, window_size):
        calls.append(len(ends_q) - 1)
        assert ends_q[-1] == len(query)
        assert ends_k[-1] == len(key)
        sides = ((query, ends_q), (key, ends_k), (value, ends_k))
        split = (states.transpose(0, 1).split(ends.diff().tolist(), dim=1) for states, ends in sides)
        settings = {"scale": scale, "is_causal": window_size == (-1, 0)}
        attended = [scaled_dot_product_attention(*row, **settings) for row in zip(*split, strict=True)]
        return torch.cat(attended, 1).transpose(0, 1)

    monkeypatch.setattr(varlen, "varlen_attn", loop)
    monkeypatch.setattr(varlen, "_has_kernel", lambda device: True)
    monkeypatch.setattr(varlen, "_DTYPES", (torch.float32,))
    return calls


def test_a_packed_run_begins_with_the_loss_of_the_same_rows_padded(tmp_path):
    overrides = [*TINY, *LAYERS, *PACKED, f"output_dir={tmp_path / 'run'}", "batch.micro_batches=2"]
    assert translation.main(["translation/toy", *overrides]) == 0
    found = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    task = make_task("translation")
    rows = Plan(task.lengths, 400, 1, packed=True, pack_length=128).groups(0)[0]
    loss, _ = loss_and_gradients(task, task.make_batch(rows, 0))
    assert found["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert found["tokens"] == np.asarray(task.lengths)[rows].sum()


@pytest.mark.parametrize("name", ["generation", "masked_lm"])
def test_blocks_are_not_packed(name):
    with pytest.raises(UserError, match=r"batch\.packing=True .*must be false with data\.layout=blocks: blocks have"):
        make_task(name, "batch.packing=true", "data.layout=blocks")


def test_classifiers_are_not_packed():
    with pytest.raises(UserError, match=r"batch\.packing=True .*a classifier pools one vector a line"):
        load_experiment(classification.ClassificationExperiment, "classification/toy", ["batch.packing=true"])


def test_a_row_longer_than_a_line_is_named(tmp_path):
    overrides = [*TINY, *LAYERS, "batch.packing=true", "batch.pack_length=8", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"batch\.pack_length=8 is too small: row \d+ has \d+ tokens; raise"):
        translation.main(["translation/toy", *overrides])


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["batch.pack_length=64"], r"batch\.pack_length=64 .*is the length of packed lines: set batch\.packing=true"),
        (["batch.packing=true", "batch.pack_length=0"], r"batch\.pack_length=0 .*must be 1 or greater, or null"),
        (["batch.packing=true"], r"attention=eager computes every pair of tokens of a line: give batch\.pack_length"),
        (["batch.packing=true", "attention=sdpa"], r"attention=sdpa computes every pair of tokens of a line"),
        (
            [*PACKED, "attention=torch_varlen"],
            r"attention=torch_varlen needs an NVIDIA GPU .*; otherwise use auto, eager",
        ),
        ([*PACKED, "attention=flash_attention_2"], r"attention=flash_attention_2 takes no mask, which packed rows"),
        (
            [*PACKED, "model.position_embedding_type=learned", "model.max_position_embeddings=100"],
            r"batch\.pack_length=128: the model has learned positions for 100 tokens, and the padding",
        ),
    ],
)
def test_wrong_settings(overrides, text):
    with pytest.raises(UserError, match=text):
        make_task("translation", *overrides)


def test_flash_kernels_take_a_single_line():
    with pytest.raises(UserError, match=r"batch\.pack_length=128: attention=flash_attention_2 keeps rows apart on a"):
        make_task("generation", *PACKED, "attention=flash_attention_2")
