"""The classification recipe, end to end on a few rows, and its configurations."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from vanilla_recipes.classification import ClassificationExperiment, main, setup
from vanilla_recipes.data.toy import toy_rows
from vanilla_recipes.engine.run import train
from vanilla_recipes.engine.task import Task
from vanilla_recipes.errors import UserError
from vanilla_recipes.packaged import packaged_configs
from vanilla_recipes.settings.config_files import load_experiment, write_experiment
from vanilla_transformers import VanillaDecoderForCausalLM, VanillaEncoderForMaskedLM, VanillaEncoderModel

CONFIGS = [name for name in packaged_configs() if name.startswith("classification/")]
TINY = [
    "max_duration=6 steps",
    "evaluation.every=3 steps",
    "checkpoint.every=4 steps",
    "log_every=1 steps",
    "data.num_train_rows=300",
    "data.num_validation_rows=20",
    "data.num_test_rows=10",
    "tokenizer.vocab_size=400",
    "batch.tokens=300",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.num_hidden_layers=1",
    "model.hidden_dropout_prob=0.1",
]


def run(folder: Path, *overrides: str) -> Path:
    """The folder of a finished run."""
    assert main(["classification/toy", *TINY, f"output_dir={folder}", *overrides]) == 0
    return folder


def task(*overrides: str) -> Task:
    """What such a run would hand to the engine."""
    return setup(load_experiment(ClassificationExperiment, "classification/toy", [*TINY, *overrides]))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """The folder of a run of six steps."""
    return run(tmp_path_factory.mktemp("classification") / "run")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def write_rows(folder: Path, **splits: list[dict]) -> None:
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_scores_stand_in_the_run_folder(run_folder):
    records = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    scored = [record for record in records if "validation_accuracy" in record]
    assert [record["step"] for record in scored] == [3, 6]
    assert {"validation_loss", "validation_f1", "validation_matthews"} <= scored[0].keys()
    test = json.loads((run_folder / "results.json").read_text())["test"]
    assert test["rows"] == 10
    assert test["f1_average"] == "binary"


def test_saved_model_is_a_pipeline(run_folder):
    classify = pipeline("text-classification", model=str(run_folder / "best"))
    answers = classify(["The plot was dull.", "The acting was superb, but the plot was dull."], top_k=None)
    assert [{answer["label"] for answer in row} for row in answers] == [{"negative", "positive"}] * 2
    assert sum(answer["score"] for answer in answers[0]) == pytest.approx(1)
    config = json.loads((run_folder / "best" / "config.json").read_text())
    assert config["problem_type"] == "single_label_classification"


def test_scores_are_those_of_the_saved_model(run_folder):
    """Each row by itself, with transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(run_folder / "final").eval()
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "final")
    validation = task().validation
    losses, right = [], 0
    for row in toy_rows("sentiment", "validation", 20, seed=1):
        output = model(**tokenizer(row["text"], return_tensors="pt"), labels=torch.tensor([row["label"]]))
        losses.append(output.loss.item())
        right += output.logits.argmax().item() == row["label"]
    scores = validation.score(validation.predict(model, torch.arange(20).numpy()))
    assert scores["loss"] == pytest.approx(sum(losses) / 20, abs=1e-6)
    assert scores["accuracy"] == right / 20


def test_config_yaml_reads_back(run_folder, tmp_path):
    experiment = load_experiment(ClassificationExperiment, str(run_folder / "config.yaml"))
    write_experiment(experiment, tmp_path / "again.yaml")
    assert load_experiment(ClassificationExperiment, str(tmp_path / "again.yaml")) == experiment


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    augmentation = ["augmentation.swap=0.1", "augmentation.word_dropout=0.1", "augmentation.subword_dropout=0.1"]
    straight = run(tmp_path / "straight", *augmentation, "data.num_train_rows=60")
    stopped = tmp_path / "stopped"
    num_batches = 0

    def setup_and_stop(experiment: ClassificationExperiment) -> Task:
        whole = setup(experiment)

        def make_batch(rows, epoch):
            nonlocal num_batches
            num_batches += 1
            if num_batches == 6:  # two steps behind the checkpoint
                raise KeyboardInterrupt
            return whole.make_batch(rows, epoch)

        return dataclasses.replace(whole, make_batch=make_batch)

    settings = ["classification/toy", *TINY, *augmentation, "data.num_train_rows=60", f"output_dir={stopped}"]
    with pytest.raises(KeyboardInterrupt):
        train(ClassificationExperiment, setup_and_stop, settings)
    assert main([*settings, "resume=always"]) == 0
    assert equal(weights(straight / "final"), weights(stopped / "final"))


def test_a_row_changes_from_epoch_to_epoch_whatever_its_batch():
    changes = ("swap=0.2", "deletion=0.1", "word_dropout=0.1", "subword_dropout=0.1")
    augmented = task(*(f"augmentation.{change}" for change in changes))
    rows = torch.arange(10).numpy()
    together, alone = augmented.make_batch(rows, 3), augmented.make_batch(rows[7:8], 3)
    length = alone["input_ids"].shape[1]
    assert torch.equal(together["input_ids"][7, :length], alone["input_ids"][0])
    assert torch.equal(together["attention_mask"][7, :length], alone["attention_mask"][0])
    assert not torch.equal(together["input_ids"], augmented.make_batch(rows, 4)["input_ids"])
    assert together["input_ids"].shape[1] == augmented.lengths(3)[:10].max()


def test_pairs_and_several_classes(tmp_path):
    names = ["contradiction", "entailment", "neutral"]
    rows = [{"a": "It rains.", "b": f"It is {n % 7} wet.", "relation": names[n % 3]} for n in range(60)]
    write_rows(tmp_path, train=rows, validation=rows[:9])
    fields = ["data.text_field=a", "data.pair_field=b", "data.label_field=relation", "data.label_names=null"]
    overrides = [f"data.path={tmp_path}", "data.test_split=null", *fields]
    folder = run(tmp_path / "run", *overrides)
    config = json.loads((folder / "best" / "config.json").read_text())
    assert config["id2label"] == {"0": "contradiction", "1": "entailment", "2": "neutral"}
    assert task(*overrides).make_batch(torch.arange(3).numpy(), 0)["token_type_ids"].max() == 1
    answer = pipeline("text-classification", model=str(folder / "best"))({"text": "It rains.", "text_pair": "It is."})
    assert answer["label"] in names


def test_a_decoder_classifies(tmp_path):
    folder = run(tmp_path / "run", "model.family=decoder", "model.classifier_pooling=last")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "best")
    assert type(model).__name__ == "VanillaDecoderForSequenceClassification"
    answers = pipeline("text-classification", model=str(folder / "best"))(["The plot was dull.", "Fine."], batch_size=2)
    assert {answer["label"] for answer in answers} <= {"negative", "positive"}


def headed(run_folder: Path, model_class: type, folder: Path, **changes) -> Path:
    """The encoder of a finished run under another head, with what only that head has left out."""
    source = AutoModelForSequenceClassification.from_pretrained(run_folder / "final")
    for name, value in changes.items():
        setattr(source.config, name, value)
    model = model_class(source.config)
    (model.model if hasattr(model, "model") else model).load_state_dict(source.model.state_dict(), strict=False)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(run_folder / "final").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("model_class", [VanillaEncoderForMaskedLM, VanillaEncoderModel])
def test_starts_from_any_head_of_the_family(run_folder, tmp_path, caplog, model_class):
    saved = headed(run_folder, model_class, tmp_path / "saved", pooler=False)
    model = task(f"model.pretrained={saved}", "model.pooler=true", "model.classifier_pooling=cls").model
    before, after = weights(run_folder / "final"), model.state_dict()
    encoder = [name for name in before if name.startswith("model.")]
    assert encoder
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    assert after.keys() - before.keys() == {"model.pooler.dense.weight", "model.pooler.dense.bias"}
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])
    assert model.config.classifier_pooling == "cls"
    assert "LOAD REPORT" not in caplog.text


def test_starts_from_a_classifier(run_folder, caplog):
    saved = f"model.pretrained={run_folder / 'final'}"
    assert equal(weights(run_folder / "final"), task(saved, "model.classifier_pooling=cls").model.state_dict())
    assert caplog.messages == ["model.classifier_pooling=cls is ignored: the saved model has mean"]
    other = task(saved, "data.label_names=[negative, neutral, positive]").model
    assert other.state_dict()["classifier.weight"].shape == (3, 16)


def test_refuses_a_saved_model_that_lacks_more_than_the_head(run_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for model_class, missing in ((VanillaEncoderForMaskedLM, "model.layers."), (None, "classifier.")):
        saved = tmp_path / missing
        if model_class is None:
            shutil.copytree(run_folder / "final", saved)
        else:
            headed(run_folder, model_class, saved)
        tensors = load_file(saved / "model.safetensors")
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(missing)}
        save_file(kept, saved / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match=rf"model\.pretrained=.*are missing in the weights: .*{missing}"):
            task(f"model.pretrained={saved}")


def test_the_family_is_that_of_the_saved_model(tmp_path):
    decoder = task("model.family=decoder")
    saved = tmp_path / "causal"
    decoder.save_model(VanillaDecoderForCausalLM(decoder.model.config), saved)
    with pytest.raises(UserError, match="causal: is a vanilla_decoder model; give a vanilla_encoder model"):
        task(f"model.pretrained={saved}")
    started = task("model.family=decoder", f"model.pretrained={saved}").model
    expected = AutoModel.from_pretrained(saved).state_dict()
    assert equal(expected, started.model.state_dict())


def test_refuses_rows_beyond_the_learned_positions(tmp_path):
    message = r"tokenizer\.max_length=64: the model has learned positions for 32 tokens; lower it, or raise"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", "model.position_embedding_type=learned", "model.max_position_embeddings=32")


def test_labels_outside_the_set_show_before_the_training(tmp_path):
    rows = [{"text": f"A film {n}.", "label": n % 2} for n in range(40)]
    for split in ("validation", "test"):
        write_rows(tmp_path, train=rows, validation=rows, test=rows)
        write_rows(tmp_path, **{split: [rows[0], {"text": "Odd.", "label": 2}]})
        with pytest.raises(UserError, match=rf"{split}\.jsonl:2: the number 2 is no label: .*'negative', 'positive'"):
            run(tmp_path / "run", f"data.path={tmp_path}")
    assert not (tmp_path / "run").exists()


def test_refuses_to_go_on_with_other_labels(tmp_path):
    rows = [{"text": f"A film {n}.", "label": n % 2} for n in range(40)]
    write_rows(tmp_path, train=rows, validation=rows, test=rows)
    settings = [f"data.path={tmp_path}", "checkpoint.every=2 steps"]
    run(tmp_path / "run", *settings, "max_duration=2 steps")
    write_rows(tmp_path, train=[rows[1], rows[0] | {"label": 1}, rows[1] | {"label": 0}, *rows[3:]])
    with pytest.raises(UserError, match="resume: the training data, the validation data or the tokenizer differ"):
        run(tmp_path / "run", *settings, "resume=always")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hiden_size=3", r"model\.hiden_size .*: there is no such key; did you mean model\.hidden_size\?"),
        ("model.family=seq2seq", r"model\.family=seq2seq .*: must be one of encoder, decoder"),
        ("model.hidden_size=30", "model: hidden_size is 30, which num_attention_heads 4 does not divide"),
        ("tokenizer.max_length=4", r"tokenizer\.max_length=4 .*: must be 5 or greater"),
        ("augmentation.swap=2", r"augmentation\.swap=2.*: must be at least 0 and less than 1"),
        ("data.pair_field=text", r"data\.pair_field=.text. .*: must differ from text_field"),
        ("data.label_names=[one]", r"data\.label_names=.*: must be two or more different names"),
        ("evaluation.metric=bleu", r"evaluation\.metric=bleu .*: must be one of accuracy, f1, matthews, loss"),
        ("data.label_field=gold", r"toy train row 0: no 'gold' in this row, which has text, label"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_clear_line(tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        main(["classification/toy", "data.num_train_rows=300", f"output_dir={tmp_path / 'run'}", override])
    assert not (tmp_path / "run").exists()


def test_a_decoder_takes_no_pairs(tmp_path):
    with pytest.raises(UserError, match=r"data\.pair_field=.b. .*: must be null with model\.family=decoder"):
        run(tmp_path / "run", "data.pair_field=b", "model.family=decoder")


def test_a_decoder_cannot_hide_words(tmp_path):
    with pytest.raises(UserError, match=r"augmentation\.word_dropout: the tokenizer has no mask token"):
        run(tmp_path / "run", "model.family=decoder", "augmentation.word_dropout=0.1")


def test_there_are_configs():
    assert {"classification/toy", "classification/sst2", "classification/imdb", "classification/bert_base_sst2"} <= set(
        CONFIGS
    )
