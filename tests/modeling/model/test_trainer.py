"""transformers' own trainers on the models: what they compute is exact, and a run can go on."""

import pytest
import torch
from tiny import DECODERS, ENCODERS, SEQ2SEQ, SEQUENCE_HEADS, is_seq2seq, name_of, random_ids, tiny_model
from torch.nn import functional
from transformers import (
    AutoModel,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

CAUSAL, SEQ2SEQ_LM, MASKED = DECODERS[1], SEQ2SEQ[1], ENCODERS[1]
QA = ENCODERS[4]
TRAINED = (CAUSAL, SEQ2SEQ_LM, MASKED, *SEQUENCE_HEADS, ENCODERS[3], QA)
LM_HEADS = (CAUSAL, SEQ2SEQ_LM, MASKED)
BF16, SMOOTHED = {"bf16": True}, {"label_smoothing_factor": 0.1}
SETTINGS = {
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-3,
    "max_steps": 12,
    "lr_scheduler_type": "constant",
    "use_cpu": True,
    "report_to": [],
    "logging_steps": 1,
    "save_strategy": "no",
    "disable_tqdm": True,
    "seed": 5,
}


def rows_for(model_class, count: int = 16) -> list[dict]:
    """Rows of different lengths, with different numbers of targets."""
    rows = []
    for index in range(count):
        ids = random_ids(4 + index % 5, seed=index)
        row = {"input_ids": ids.tolist()}
        if model_class is QA:
            rows.append(row | {"start_positions": index % 3, "end_positions": index % 3 + 1})
            continue
        if model_class in SEQUENCE_HEADS:
            labels = ids[0] % 3
        elif is_seq2seq(model_class):
            labels = ids.flip(0)[: 2 + index % 3]
        else:
            labels = ids % 3 if "TokenClassification" in model_class.__name__ else ids.clone()
            labels[: index % 3] = -100
        rows.append(row | {"labels": labels.tolist()})
    return rows


def collator_for(model, tokenizer):
    """The collator of transformers for the model's task."""
    if is_seq2seq(type(model)):
        return DataCollatorForSeq2Seq(tokenizer, model=model)
    if type(model) is QA:  # the softmax of a span's ends runs over padding too, so the width counts
        return DataCollatorWithPadding(tokenizer, padding="max_length", max_length=10)
    if type(model) in SEQUENCE_HEADS:
        return DataCollatorWithPadding(tokenizer)
    return DataCollatorForTokenClassification(tokenizer)


def trainer_for(model, tokenizer, folder, **settings) -> Trainer:
    in_seq2seq = is_seq2seq(type(model))
    trainer_class, arguments_class = (
        (Seq2SeqTrainer, Seq2SeqTrainingArguments) if in_seq2seq else (Trainer, TrainingArguments)
    )
    return trainer_class(
        model,
        arguments_class(str(folder), **SETTINGS | settings),
        data_collator=collator_for(model, tokenizer),
        train_dataset=rows_for(type(model)),
    )


def vector(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def losses_of(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def cases(*settings: tuple) -> pytest.MarkDecorator:
    """A test for each class of each (settings, classes)."""
    pairs = [(setting, model_class) for setting, classes in settings for model_class in classes]
    names = ["-".join([name_of(model_class), *setting]) for setting, model_class in pairs]
    return pytest.mark.parametrize(("settings", "model_class"), pairs, ids=names)


@cases(({}, TRAINED), (SMOOTHED, LM_HEADS), (BF16, LM_HEADS))
def test_loss_falls(model_class, settings, tokenizer, tmp_path):
    model = tiny_model(model_class, initializer_range=0.05)
    trainer = trainer_for(model, tokenizer, tmp_path, **settings)
    trainer.train()
    losses = losses_of(trainer)
    assert losses[-1] < 0.8 * losses[0]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@cases(({}, TRAINED), (SMOOTHED, LM_HEADS))
def test_accumulation_gives_the_same_weights(model_class, settings, tokenizer, tmp_path):
    weights = []
    for batch_size in (8, 2):
        model = tiny_model(model_class)
        start = vector(model)
        cut = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": 8 // batch_size}
        # Plain gradient steps: Adam divides what is only rounding by its own size.
        trainer_for(model, tokenizer, tmp_path, **cut, **settings, optim="sgd", learning_rate=0.1, max_steps=3).train()
        weights.append(vector(model))
    moved = (weights[0] - start).norm()
    assert moved > 1e-2
    assert (weights[1] - weights[0]).norm() < min(1e-6 * start.norm(), 1e-5 * moved)


class AnotherDecoder(CAUSAL):
    """Somebody's own."""


@pytest.mark.parametrize("model_class", [*LM_HEADS, AnotherDecoder], ids=name_of)
def test_trainers_label_smoothing_is_torchs(model_class, tokenizer, tmp_path):
    """A causal model whose labels were not shifted before smoothing would be off by a lot."""
    model = tiny_model(model_class)
    trainer = trainer_for(model, tokenizer, tmp_path, label_smoothing_factor=0.1)
    batch = trainer.data_collator(rows_for(model_class)[:4])
    loss = trainer.compute_loss(model, dict(batch))
    own = tiny_model(model_class, label_smoothing=0.1).train()(**batch)
    labels = batch["labels"]
    logits = own.logits
    if issubclass(model_class, CAUSAL):
        logits, labels = logits[:, :-1], labels[:, 1:]
    expected = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own.loss, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_class", SEQUENCE_HEADS, ids=name_of)
def test_predictions_are_the_logits_alone(model_class, tokenizer, tmp_path):
    model = tiny_model(model_class)
    trainer = trainer_for(model, tokenizer, tmp_path, per_device_eval_batch_size=3)
    rows = rows_for(model_class)[:5]
    predicted = trainer.predict(rows)
    assert predicted.predictions.shape == (5, 3)
    with torch.no_grad():
        logits = torch.cat([model(torch.tensor([row["input_ids"]])).logits for row in rows])
    torch.testing.assert_close(torch.tensor(predicted.predictions), logits, rtol=0, atol=1e-5)


def test_predict_with_generate(tokenizer, tmp_path):
    model = tiny_model(SEQ2SEQ_LM)
    trainer = trainer_for(
        model,
        tokenizer,
        tmp_path,
        predict_with_generate=True,
        generation_num_beams=3,
        generation_max_length=9,
        per_device_eval_batch_size=4,
    )
    rows = rows_for(SEQ2SEQ_LM)[:4]
    predicted = trainer.predict(rows)
    batch = trainer.data_collator(rows)
    expected = model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=3, max_length=9
    )
    assert predicted.predictions[:, : expected.shape[1]].tolist() == expected.tolist()
    assert predicted.metrics["test_loss"] > 0


@pytest.mark.parametrize("model_class", [CAUSAL, SEQ2SEQ_LM, SEQUENCE_HEADS[0]], ids=name_of)
def test_resumed_run_equals_an_uninterrupted_one(model_class, tokenizer, tmp_path):
    def trained(max_steps: int, **settings):
        model = tiny_model(model_class, hidden_dropout_prob=0.1)
        trainer_for(model, tokenizer, tmp_path, max_steps=max_steps, **settings).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-3") if not settings else None
        )
        return vector(model)

    whole = trained(6, save_strategy="steps", save_steps=3)
    assert torch.equal(trained(6), whole)
    loaded = AutoModel.from_pretrained(tmp_path / "checkpoint-6")
    assert loaded.config.auto_map == model_class.config_class.family_auto_map
