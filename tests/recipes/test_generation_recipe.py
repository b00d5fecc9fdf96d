"""The generation recipe, end to end on a few rows, and its configurations."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from vanilla_recipes.errors import UserError
from vanilla_recipes.generation import GenerationExperiment, main, setup
from vanilla_recipes.packaged import packaged_configs
from vanilla_recipes.settings.config_files import load_experiment

CONFIGS = [name for name in packaged_configs() if name.startswith("generation/")]
TINY = [
    "max_duration=6 steps",
    "evaluation.every=3 steps",
    "checkpoint.every=4 steps",
    "log_every=1 steps",
    "precision=fp32",
    "data.num_train_rows=100",
    "data.num_validation_rows=20",
    "data.num_test_rows=10",
    "data.block_size=32",
    "tokenizer.vocab_size=300",
    "batch.tokens=256",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.num_hidden_layers=1",
    "generation.max_new_tokens=40",
]
ANSWERS = [
    "data.prompt_field=question",
    "data.completion_field=answer",
    "data.layout=documents",
    "data.test_split=null",
    "generation.prompts=[]",
]
PIECES = ["data.rows_are=pieces", "data.test_split=null", "generation.prompts=[]"]


def run(folder: Path, *overrides: str) -> Path:
    assert main(["generation/toy", *TINY, f"output_dir={folder}", *overrides]) == 0
    return folder


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write_answers(folder: Path, num_rows: int = 60) -> None:
    rows = [json.dumps({"question": f"{n} + 1 =", "answer": f" {n + 1}"}) for n in range(num_rows)]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """The folder of a run of six steps with dropout."""
    return run(tmp_path_factory.mktemp("generation") / "run", "model.hidden_dropout_prob=0.1")


def test_run_folder_is_complete(run_folder):
    names = {path.name for path in run_folder.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "results.json", "samples.txt", "checkpoints", "best", "final"} <= names
    files = {path.name for path in (run_folder / "best").iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= files


def test_metrics_results_and_samples(run_folder):
    assert [record["step"] for record in records(run_folder) if "loss" in record] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in records(run_folder) if "validation_loss" in record] == [3, 6]
    results = json.loads((run_folder / "results.json").read_text())
    assert {"rows", "loss", "perplexity", "bits_per_byte", "bits_per_character"} <= results["test"].keys()
    assert results["context"] == {"layout": "blocks", "block_size": 32}
    samples = (run_folder / "samples.txt").read_text()
    assert samples.count("===") == 3
    assert samples.startswith('=== 1, after "Once upon a time"\nOnce upon a time')


def test_loss_of_the_whole_split_is_that_of_torch(run_folder, tmp_path):
    """Plain torch over the validation text, block after block, every token but the first a target once."""
    from vanilla_recipes.data.toy import toy_rows

    model = AutoModelForCausalLM.from_pretrained(run_folder / "final").eval()
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "final")
    texts = [row["text"] for row in toy_rows("stories", "validation", 20, seed=1)]
    end = tokenizer.eos_token
    ids = tokenizer(end + end.join(texts) + end, add_special_tokens=False)["input_ids"]
    losses = []
    for start in range(0, len(ids) - 1, 32):
        block = torch.tensor(ids[start : start + 33])
        with torch.inference_mode():
            logits = model(block[None, :-1]).logits[0]
        losses.append(torch.nn.functional.cross_entropy(logits, block[1:], reduction="none"))
    loss = torch.cat(losses)
    assert len(loss) == len(ids) - 1
    scores = records(run_folder)[-1]
    assert scores["validation_loss"] == pytest.approx(loss.mean().item(), rel=1e-6)
    num_bytes = len("".join(texts).encode())
    assert scores["validation_bits_per_byte"] == pytest.approx(loss.sum().item() / num_bytes / 0.6931471806, rel=1e-6)


def test_fewer_validation_rows(tmp_path, run_folder):
    scores = records(run(tmp_path / "run", "evaluation.max_rows=3", "max_duration=1 steps"))[-1]
    assert scores["validation_rows"] == 3
    assert scores["validation_bits_per_byte"] == pytest.approx(records(run_folder)[0]["loss"] / 0.69, abs=6)


def test_auto_classes_and_pipeline_load_it(run_folder):
    generate = pipeline("text-generation", model=str(run_folder / "best"))
    ((first,), (second,)) = generate(["Once upon", "A"], max_new_tokens=5, do_sample=False)
    assert first["generated_text"].startswith("Once upon")
    assert second["generated_text"].startswith("A")
    assert generate.tokenizer("A")["input_ids"][0] == generate.tokenizer.eos_token_id


def test_left_padding_changes_nothing(run_folder):
    model = AutoModelForCausalLM.from_pretrained(run_folder / "best").eval()
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "best")
    prompts = ["A", "Once upon a time, there was"]
    options = {"do_sample": False, "max_new_tokens": 6}
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    assert batch["attention_mask"][0, 0] == 0
    together = model.generate(**batch, **options)[:, -6:]
    alone = [model.generate(**tokenizer(prompt, return_tensors="pt"), **options)[0, -6:] for prompt in prompts]
    assert torch.equal(together, torch.stack(alone))


def test_sampling_settings_stand_in_their_own_file(run_folder, tmp_path):
    generation = GenerationConfig.from_pretrained(run_folder / "final")
    assert (generation.do_sample, generation.temperature, generation.top_p) == (True, 0.7, 1.0)
    config = json.loads((run_folder / "final" / "config.json").read_text())
    assert not {"do_sample", "temperature", "top_k", "max_new_tokens"} & config.keys()
    greedy = ["generation.temperature=0", "model.position_embedding_type=learned", "max_duration=1 steps"]
    generation = GenerationConfig.from_pretrained(run(tmp_path / "run", *greedy) / "best")
    assert (generation.do_sample, generation.temperature, generation.max_length) == (False, None, 32)


def test_a_resumed_run_is_the_same_run(run_folder, tmp_path):
    """Blocks are cut elsewhere in the second epoch, so the run goes over its end."""
    overrides = ["model.hidden_dropout_prob=0.1", "schedule.name=constant", "max_duration=24 steps"]
    often = ["evaluation.every=null", "checkpoint.every=8 steps", "data.num_train_rows=20"]
    straight = run(tmp_path / "straight", *overrides, *often)
    assert records(straight)[-1]["epoch"] > 1
    stopped = run(tmp_path / "stopped", *overrides, *often, "max_duration=16 steps")
    assert main(["generation/toy", *TINY, *overrides, *often, f"output_dir={stopped}", "resume=always"]) == 0
    weights = [AutoModelForCausalLM.from_pretrained(folder / "final").state_dict() for folder in (straight, stopped)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    losses = [[record["loss"] for record in records(folder) if "loss" in record] for folder in (straight, stopped)]
    assert losses[0] == losses[1]


def test_prompts_and_completions(tmp_path):
    write_answers(tmp_path)
    folder = run(tmp_path / "run", f"data.path={tmp_path}", *ANSWERS, "evaluation.every=null")
    samples = (folder / "samples.txt").read_text()
    assert samples.startswith('=== 1, after "0 + 1 ="\n0 + 1 =')
    assert samples.count("===") == 4
    # Of "9 + 1 =" with " 10" the completion and the end count: every byte but those of the prompts.
    experiment = load_experiment(
        GenerationExperiment, "generation/toy", [*TINY, *ANSWERS, f"data.path={tmp_path}", "tokenizer.kind=characters"]
    )
    task = setup(experiment)
    batch = task.make_batch([9], 0)
    assert task.num_targets(batch) == len(" 10") + 1
    assert task.num_targets(batch) == (batch["shift_labels"][0, -4:] != -100).sum()


def test_goes_on_from_a_saved_model_with_its_tokenizer(run_folder, tmp_path):
    write_answers(tmp_path)
    pretrained = [f"model.pretrained={run_folder / 'best'}", f"data.path={tmp_path}", *ANSWERS, "max_duration=1 steps"]
    folder = run(tmp_path / "run", *pretrained, "optimizer.learning_rate=1e-30")
    models = [
        AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (run_folder / "best", folder / "best")
    ]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert (folder / "best" / "tokenizer.json").read_text() == (run_folder / "best" / "tokenizer.json").read_text()


def test_takes_a_saved_tokenizer(run_folder, tmp_path):
    (tmp_path / "gpt2").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(run_folder / "best" / name, tmp_path / "gpt2")
    folder = run(tmp_path / "run", f"tokenizer.name={tmp_path / 'gpt2'}", "max_duration=1 steps")
    vocabularies = [AutoTokenizer.from_pretrained(path).get_vocab() for path in (run_folder / "best", folder / "best")]
    assert vocabularies[0] == vocabularies[1]


def test_characters_of_a_single_file(tmp_path):
    (tmp_path / "input.txt").write_text("To be, or not to be: that is the question.\n" * 50)
    text = [f"data.path={tmp_path / 'input.txt'}", *PIECES]
    folder = run(tmp_path / "run", *text, "tokenizer.kind=characters", "model.position_embedding_type=learned")
    tokenizer = AutoTokenizer.from_pretrained(folder / "best")
    assert len(tokenizer) == 3 + len(set("To be, or not to be: that is the question.\n"))
    assert records(folder)[-1]["validation_rows"] == -(-(215 - 1) // 32)
    sample = (folder / "samples.txt").read_text().split("\n=== 2")[0]
    assert len(sample) > 50  # longer than the learned positions


def test_refuses_to_go_on_with_other_text(tmp_path):
    (tmp_path / "input.txt").write_text("To be, or not to be: that is the question.\n" * 50)
    text = [f"data.path={tmp_path / 'input.txt'}", *PIECES]
    folder = run(tmp_path / "run", *text, "max_duration=4 steps")
    (tmp_path / "input.txt").write_text("To be, or not to be: this is the question.\n" * 50)
    with pytest.raises(UserError, match="the training data, the validation data or the tokenizer differ"):
        run(folder, *text, "resume=always")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.max_position_embeddings=16", "model.position_embedding_type=learned"],
         r"data\.block_size=32: the model has learned positions for 16 tokens; lower it, or raise model\.max_position"),
        (["data.block_size=100000", "batch.tokens=100000"], r"data\.block_size=100000: the train split has \d+ tokens"),
        (["data.block_size=512"], r"batch\.tokens=256 is too small: row 0 alone has 512 tokens"),
        (["data.text_field=body"], r"toy train row 0: no 'body' in this row, which has text; .*data\.text_field="),
        (["data.layout=sentences"], r"data\.layout=sentences .*: must be one of blocks, documents"),
        (["tokenizer.kind=words"], r"tokenizer\.kind=words .*: must be one of bpe, characters"),
        (["tokenizer.vocab_size=100"], r"tokenizer\.vocab_size=100 is too small"),
        (["tokenizer.name=/nowhere/at/all"], r"tokenizer\.name=/nowhere/at/all: there is no such folder"),
        (["generation.temperature=-1"], r"generation\.temperature=-1.* must be between 0"),
        (["generation.top_p=0"], r"generation\.top_p=0.* must be greater than 0 and at most 1"),
        (["generation.top_k=0"], r"generation\.top_k=0.* must be 1 or greater, or null"),
        (["generation.prompts=['']"], r"generation\.prompts=.* must not be blank"),
        (["tokenizer.kind=characters", "generation.prompts=['Zaz€']"], "no token for a part of 'Zaz€', which"),
        (["model.pretrained=some", "tokenizer.name=other"], r"tokenizer\.name='other' .*: must be null with model"),
        (["generation.max_new_tokens=0"], r"generation\.max_new_tokens=0.* must be 1 or greater"),
        (["model.vocab_size=10"], r"there is no such key; did you mean tokenizer\.vocab_size\?"),
        (["model.hidden_size=30", "model.num_attention_heads=4"], "model: hidden_size is 30, which num_attention"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_clear_line(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", *overrides)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_fault_in_the_validation_text_shows_before_the_training(tmp_path):
    (tmp_path / "train.txt").write_text("A long enough text. " * 100)
    (tmp_path / "validation.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"validation\.txt:1: not UTF-8: byte 0xff"):
        run(tmp_path / "run", f"data.path={tmp_path}", "data.test_split=null")
    assert not (tmp_path / "run").exists()


def test_there_are_configs():
    names = ("toy", "tinyshakespeare_char", "tinyshakespeare_char_fast", "tinyshakespeare_gpu", "novels")
    large = ("wikitext103", "tinystories", "openwebtext_gpt2")
    assert {f"generation/{name}" for name in (*names, *large)} <= set(CONFIGS)
