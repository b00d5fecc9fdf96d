"""The translation recipe, end to end on a few rows, and its configurations."""

import json
import shutil
from importlib import resources
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from vanilla_transformers import VanillaSeq2SeqForConditionalGeneration
from vanilla_transformers.recipes.engine.config_files import config_names, load_experiment, write_experiment
from vanilla_transformers.recipes.engine.pretrained import load_pretrained
from vanilla_transformers.recipes.errors import UserError
from vanilla_transformers.recipes.scoring.decoding import translate
from vanilla_transformers.recipes.translation import TranslationExperiment, main

CONFIGS = [name for name in config_names() if name.startswith("translation/")]
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
    assert results["generation"]["num_beams"] == 4


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
    message = r"resume: the training data or the tokenizer differ from those that .*run was begun with: bring them back"
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
        ("generation.num_beams=0", r"generation\.num_beams=0 .*: must be 1 or greater"),
        ("data.target_lang=en", r"data\.target_lang=.en. .*: must differ from source_lang"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_clear_line(tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        main(["translation/toy", "data.num_train_rows=300", f"output_dir={tmp_path / 'run'}", override])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_alive(name):
    experiment = load_experiment(TranslationExperiment, name)
    assert experiment.output_dir == f"runs/{name.replace('/', '-')}"
    text = (resources.files("vanilla_transformers.configs") / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.split()[:4] == ["#", "vanilla", "train", name]


def test_there_are_configs():
    assert {"translation/toy", "translation/multi30k"} <= set(CONFIGS)
