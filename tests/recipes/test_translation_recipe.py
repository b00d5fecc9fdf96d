"""The translation recipe, end to end on a few rows, and its configurations."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from vanilla_recipes.data.pairs import translation_pairs
from vanilla_recipes.engine.optimization import build_schedule
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.pretrained import load_pretrained
from vanilla_recipes.packaged import packaged_configs
from vanilla_recipes.scoring.decoding import translate
from vanilla_recipes.scoring.losses import RowLoss
from vanilla_recipes.settings.config_files import load_experiment, write_experiment
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.translation import TranslationExperiment, main, setup
from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration

CONFIGS = [name for name in packaged_configs() if name.startswith("translation/")]
TINY = [
    "max_duration=6 steps",
    "evaluation.every=3 steps",
    "evaluation.max_rows=8",
    "checkpoint.every=4 steps",
    "log_every=1 steps",
    "precision=fp32",
    "data.num_train_rows=300",
    "data.num_validation_rows=20",
    "data.num_test_rows=10",
    "tokenizer.vocab_size=500",
    "batch.tokens=300",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """The folder of a run of six steps."""
    folder = tmp_path_factory.mktemp("translation") / "run"
    assert main(["translation/toy", *TINY, f"output_dir={folder}"]) == 0
    return folder


def loaded(folder: Path):
    return AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_run_folder_is_complete(run_folder):
    names = {path.name for path in run_folder.iterdir()}
    assert names == {"config.yaml", "metrics.jsonl", "curves.png", "results.json", "checkpoints", "best", "final"}
    for name in ("best", "final"):
        files = {path.name for path in (run_folder / name).iterdir()}
        assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= files


def test_metrics_and_results(run_folder):
    records = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6]
    assert {"epoch", "tokens", "elapsed_seconds", "learning_rate", "grad_norm", "tokens_per_second"} <= steps[0].keys()
    scored = [record for record in records if "validation_bleu" in record]
    assert [record["step"] for record in scored] == [3, 6]
    results = json.loads((run_folder / "results.json").read_text())
    assert results["test"]["rows"] == 10
    assert results["test"]["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert results["test"]["chrf_signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert {"validation_bleu_lowercase", "validation_chrf"} <= scored[0].keys()
    assert results["generation"]["num_beams"] == 4


def test_scores_are_those_of_the_translations(run_folder):
    experiment = load_experiment(TranslationExperiment, "translation/toy", [*TINY, "generation.num_beams=1"])
    examples = setup(experiment).test
    texts = ["a Dog sees the man .", *(f"{row} words" for row in range(9))]
    references = [pair.target for pair in translation_pairs(experiment.data, "test", experiment.seed)]
    scores = examples.score([(RowLoss(1.0, 2), text) for text in texts])
    assert scores["loss"] == 0.5
    assert scores["bleu"] == sacrebleu.corpus_bleu(texts, [references]).score
    assert scores["bleu_lowercase"] == sacrebleu.corpus_bleu(texts, [references], lowercase=True).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(texts, [references]).score


@pytest.mark.parametrize(("metric", "greater"), [("bleu", True), ("chrf", True), ("loss", False)])
def test_metric_decides_which_model_is_best(metric, greater):
    task = setup(load_experiment(TranslationExperiment, "translation/toy", [*TINY, f"evaluation.metric={metric}"]))
    assert (task.metric, task.greater_is_better) == (metric, greater)
    scores = task.validation.score([(RowLoss(1.0, 2), "a") for _ in range(8)])
    assert metric in scores


AUGMENTED = ["augmentation.word_dropout=0.2", "augmentation.target_word_dropout=0.2", "augmentation.reversal=0.3"]


def test_augmented_rows_are_a_function_of_seed_epoch_and_number():
    def batch(rows: list[int], epoch: int = 0, *overrides: str) -> list[tuple]:
        task = setup(load_experiment(TranslationExperiment, "translation/toy", [*TINY, *AUGMENTED, *overrides]))
        made = task.make_batch(np.array(rows), epoch)
        lengths = made["attention_mask"].sum(1).tolist()
        return [tuple(ids[:length]) for ids, length in zip(made["input_ids"].tolist(), lengths, strict=True)]

    rows = list(range(40))
    first = batch(rows)
    assert first == batch(rows)
    assert first[7:9] == batch([7, 8])
    assert first != batch(rows, 1)
    assert first != batch(rows, 0, "seed=2")


def test_evaluation_never_sees_augmentation():
    plain, augmented = (
        setup(load_experiment(TranslationExperiment, "translation/toy", [*TINY, *overrides]))
        for overrides in ([], AUGMENTED)
    )
    assert augmented.fingerprint == plain.fingerprint
    assert np.array_equal(augmented.lengths, plain.lengths)
    model = plain.model.eval()
    rows = np.arange(8)
    with torch.inference_mode():
        assert augmented.validation.predict(model, rows) == plain.validation.predict(model, rows)


def test_augmented_run_resumes_exactly(tmp_path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    settings = ["translation/toy", *TINY, *AUGMENTED, "schedule.name=constant", "evaluation.every=null"]
    assert main([*settings, f"output_dir={straight}"]) == 0
    assert main([*settings, "max_duration=4 steps", f"output_dir={stopped}"]) == 0
    assert main([*settings, "resume=always", f"output_dir={stopped}"]) == 0
    weights = [(folder / "final" / "model.safetensors").read_bytes() for folder in (straight, stopped)]
    assert weights[0] == weights[1]


def test_generation_settings_stand_in_their_own_file(run_folder):
    generation = GenerationConfig.from_pretrained(run_folder / "final")
    assert (generation.num_beams, generation.early_stopping, generation.max_length) == (4, True, 64)
    assert (generation.decoder_start_token_id, generation.eos_token_id, generation.pad_token_id) == (2, 3, 0)
    config = json.loads((run_folder / "final" / "config.json").read_text())
    assert not {"num_beams", "early_stopping", "length_penalty", "max_length", "bad_words_ids"} & config.keys()


def test_greedy_search_can_be_saved(tmp_path):
    main(["translation/toy", *TINY, "max_duration=1 steps", "generation.num_beams=1", f"output_dir={tmp_path / 'run'}"])
    assert GenerationConfig.from_pretrained(tmp_path / "run" / "best").num_beams == 1


def test_reloaded_model_translates_in_order(run_folder):
    model, tokenizer = loaded(run_folder / "best")
    sentences = ["The dog sees the man.", "", "Yes.", "The old woman opens the small red door because it is warm."]
    together = translate(model, tokenizer, sentences, num_beams=2, batch_tokens=16)
    assert together == [translate(model, tokenizer, [sentence], num_beams=2)[0] for sentence in sentences]
    assert together[1] == ""
    assert translate(model, tokenizer, []) == []


def test_config_yaml_reads_back(run_folder, tmp_path):
    experiment = load_experiment(TranslationExperiment, str(run_folder / "config.yaml"))
    assert experiment.model_settings["hidden_size"] == 16
    write_experiment(experiment, tmp_path / "again.yaml")
    assert load_experiment(TranslationExperiment, str(tmp_path / "again.yaml")) == experiment


def test_goes_on_from_a_saved_model(run_folder, tmp_path, caplog):
    saved = run_folder / "final"
    overrides = [
        "max_duration=1 steps",
        "optimizer.learning_rate=1e-30",
        "model.hidden_size=32",
    ]
    main(["translation/toy", *TINY, *overrides, f"model.pretrained={saved}", f"output_dir={tmp_path / 'run'}"])
    assert "model.hidden_size=32 is ignored: the saved model has 16" in caplog.text
    before, after = loaded(saved)[0].state_dict(), loaded(tmp_path / "run" / "final")[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_refuses_a_pretrained_model_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"model\.pretrained=.*none: there is no such folder"):
        main(["translation/toy", *TINY, f"model.pretrained={tmp_path / 'none'}", f"output_dir={tmp_path / 'run'}"])


def test_refuses_a_damaged_pretrained_model(run_folder, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(run_folder / "final", damaged)
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match=r"model\.pretrained=.*model\.safetensors: the weights cannot be read"):
        main(["translation/toy", *TINY, f"model.pretrained={damaged}", f"output_dir={tmp_path / 'run'}"])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"pad_token_id": None}, "pad_token_id is None in config.json, but 0 for the tokenizer; they do not belong"),
        ({"pad_token_id": 5}, "pad_token_id is 5 in config.json, but 0 for the tokenizer"),
        ({"eos_token_id": 9}, "eos_token_id is 9 in config.json, but 3 for the tokenizer"),
        ({"decoder_start_token_id": None}, "decoder_start_token_id is None in config.json, but must be an id below "),
        ({"decoder_start_token_id": 9999}, "decoder_start_token_id is 9999 in config.json, but must be an id below "),
    ],
)
def test_refuses_a_pretrained_model_whose_special_ids_cannot_be_trained_with(run_folder, tmp_path, values, text):
    folder = shutil.copytree(run_folder / "final", tmp_path / "edited")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(UserError, match=rf"^model\.pretrained={folder}: {text}"):
        load_pretrained(VanillaSeq2SeqForConditionalGeneration, str(folder), {})


def test_refuses_a_change_that_no_pretrained_model_can_have(run_folder):
    folder = str(run_folder / "final")
    with pytest.raises(UserError, match=rf"^model\.pretrained={folder}: label_smoothing is 2\.0, but must lie in"):
        load_pretrained(VanillaSeq2SeqForConditionalGeneration, folder, {"label_smoothing": 2.0})


@pytest.mark.parametrize("value", ["1000", "-101", "1e400"])
def test_refuses_a_length_penalty_that_overflows(value):
    with pytest.raises(UserError, match=r"generation\.length_penalty=.*: must be (between -100 and 100|a .*number)"):
        load_experiment(TranslationExperiment, "translation/toy", [f"generation.length_penalty={value}"])


def test_refuses_sequences_beyond_the_learned_positions(tmp_path):
    learned = ["model.position_embedding_type=learned", "model.max_position_embeddings=32"]
    message = r"tokenizer\.max_source_length=64: the model has learned positions for 32 tokens; lower it, or raise"
    with pytest.raises(UserError, match=message):
        main(["translation/toy", *TINY, *learned, f"output_dir={tmp_path / 'run'}"])


def test_fault_in_the_test_rows_shows_before_the_training(tmp_path):
    row = {"en": "A dog.", "de": "Ein Hund."}
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text(f"{json.dumps(row)}\n" * 50)
    (tmp_path / "test.jsonl").write_text(json.dumps({"en": "A dog."}))
    with pytest.raises(UserError, match=r"test\.jsonl:1: no 'de' in this row"):
        main(["translation/toy", *TINY, f"data.path={tmp_path}", f"output_dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


def test_refuses_to_go_on_with_other_rows(tmp_path):
    settings = ["translation/toy", *TINY, f"data.path={tmp_path}", f"output_dir={tmp_path / 'run'}"]
    rows = [json.dumps({"en": f"A dog sees {number} men.", "de": f"Ein Hund sieht {number}."}) for number in range(300)]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    assert main([*settings, "max_duration=4 steps"]) == 0
    (tmp_path / "train.jsonl").write_text("\n".join(rows[::-1]))
    message = r"resume: the training data, the validation data or the tokenizer differ from those .*: bring them back"
    with pytest.raises(UserError, match=message):
        main([*settings, "resume=if_available"])
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    assert main([*settings, "resume=always"]) == 0


def test_output_dir_that_cannot_be_written_shows_before_the_data(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory; choose another output_dir"):
        main(["translation/toy", *TINY, f"data.path={tmp_path / 'none'}", f"output_dir={tmp_path / 'file' / 'run'}"])


def test_refuses_a_folder_in_use(run_folder):
    with pytest.raises(UserError, match="already holds a run"):
        main(["translation/toy", *TINY, f"output_dir={run_folder}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hiden_size=3", r"model\.hiden_size .*: there is no such key; did you mean model\.hidden_size\?"),
        ("model.hidden_size=wide", r"model\.hidden_size=wide .*: must be a whole number"),
        ("model.norm_position=mid", r"model\.norm_position=mid .*: must be one of post, pre"),
        ("model.hidden_size=30", "model: hidden_size is 30, which num_attention_heads 4 does not divide"),
        ("model.hidden_act=rellu", "model: hidden_act 'rellu' is unknown: did you mean 'relu'?"),
        ("model.vocab_size=100", r"there is no such key; did you mean tokenizer\.vocab_size\?"),
        ("augmentation.reversal=1", r"augmentation\.reversal=1\.0 .*: must be at least 0 and less than 1"),
        ("augmentation.reversed=1", r"augmentation\.reversed .*: there is no such key; did you mean augmentation\.rev"),
        ("evaluation.metric=ter", r"evaluation\.metric=ter .*: must be one of bleu, chrf, loss"),
        ("generation.num_beams=0", r"generation\.num_beams=0 .*: must be 1 or greater"),
        ("data.target_lang=en", r"data\.target_lang=.en. .*: must differ from source_lang"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_clear_line(tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        main(["translation/toy", "data.num_train_rows=300", f"output_dir={tmp_path / 'run'}", override])
    assert not (tmp_path / "run").exists()


def test_there_are_configs():
    names = {"toy", "multi30k", "multi30k_best", "iwslt14", "wmt14_en_de", "wmt14_en_de_big"}
    assert {f"translation/{name}" for name in names} <= set(CONFIGS)


@pytest.mark.parametrize(("name", "num_parameters"), [("wmt14_en_de", 65e6), ("wmt14_en_de_big", 213e6)])
def test_full_size_configs_are_the_paper_s(name, num_parameters):
    """Table 3 of the paper: parameters in millions, dropout, label smoothing and steps."""
    experiment = load_experiment(TranslationExperiment, f"translation/{name}")
    is_big = name.endswith("big")
    with torch.device("meta"):
        model = VanillaSeq2SeqForConditionalGeneration(
            VanillaSeq2SeqConfig(vocab_size=experiment.tokenizer.vocab_size, **experiment.model_settings)
        )
    assert model.num_parameters() == pytest.approx(num_parameters, rel=0.04)
    assert model.config.hidden_dropout_prob == (0.3 if is_big else 0.1)
    assert model.config.label_smoothing == 0.1
    assert experiment.max_duration == Duration(300_000 if is_big else 100_000, "steps")
    assert experiment.averaging.checkpoints == (20 if is_big else 5)
    schedule = build_schedule(
        experiment.optimizer, experiment.schedule, experiment.max_duration, model.config.hidden_size
    )
    assert schedule.peak == pytest.approx(model.config.hidden_size**-0.5 * 4000**-0.5)
