"""Adapters: only they learn, what is saved needs none of them, and PEFT itself reads them."""

import dataclasses
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny_runs import KilledError, kill_after, losses, records, tiny_experiment, tiny_task, train, weights
from two_processes import in_processes

from vanilla_recipes.engine import adapters
from vanilla_recipes.engine.adapters import check_adapters, merged, with_adapters
from vanilla_recipes.engine.task import Task
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.pretrained import load_pretrained
from vanilla_recipes.settings.config_files import load_experiment
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import (
    AdapterConfig,
    AveragingConfig,
    CheckpointConfig,
    EvaluationConfig,
)
from vanilla_recipes.translation import TranslationExperiment
from vanilla_transformers import (
    VanillaEncoderConfig,
    VanillaEncoderForSequenceClassification,
    VanillaSeq2SeqForConditionalGeneration,
)

PEFT = AdapterConfig(r=4, alpha=8, dropout=0.1)
MODEL = VanillaSeq2SeqForConditionalGeneration


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The folder of a saved model."""
    folder = tmp_path_factory.mktemp("adapters") / "base"
    tiny_task().model.save_pretrained(folder)
    return folder


def adapted(experiment, base: Path, task: Task | None = None) -> Task:
    return with_adapters(dataclasses.replace(task or tiny_task(), model=MODEL.from_pretrained(base)), experiment)


def adapted_experiment(folder: Path, base: Path, **changes):
    return tiny_experiment(folder, model={"pretrained": str(base)}, **{"peft": PEFT} | changes)


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    """The folder of a run of twelve steps with a moving average, a checkpoint after the tenth."""
    folder = tmp_path_factory.mktemp("adapters") / "run"
    averaging, checkpoint = AveragingConfig(ema_decay=0.9), CheckpointConfig(Duration.parse("5 steps"))
    experiment = adapted_experiment(folder, base, averaging=averaging, checkpoint=checkpoint)
    train(experiment, adapted(experiment, base))
    return folder


@torch.inference_mode()
def loss_over_the_rows(folder: Path) -> float:
    return float(MODEL.from_pretrained(folder).eval()(**tiny_task().make_batch(range(60), 0)).loss)


def logits(model) -> torch.Tensor:
    batch = tiny_task().make_batch(range(8), 0)
    with torch.inference_mode():
        return model.eval()(**batch).logits


def test_adapters_learn(base, run):
    before, after = (loss_over_the_rows(folder) for folder in (base, run / "final"))
    assert after < before - 0.02


def test_the_saved_model_is_base_plus_adapters(base, run):
    before, after = load_file(base / "model.safetensors"), load_file(run / "final" / "model.safetensors")
    learnt = load_file(run / "final" / "adapter" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name.removeprefix("base_model.model.").replace("lora_B.", "") for name in learnt if "lora_B" in name
    }
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in changed} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"
    }  # fmt: skip
    for name in changed:
        key = "base_model.model." + name.removesuffix(".weight")
        expected = before[name] + 8 / 4 * learnt[f"{key}.lora_B.weight"] @ learnt[f"{key}.lora_A.weight"]
        torch.testing.assert_close(after[name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["best", "final", "final_raw"])
def test_peft_reads_the_adapters(base, run, name):
    found = PeftModel.from_pretrained(MODEL.from_pretrained(base), run / name / "adapter")
    torch.testing.assert_close(logits(found), logits(MODEL.from_pretrained(run / name)), rtol=1e-5, atol=1e-5)
    assert {path.name for path in (run / name / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_averaged_and_raw_adapters_differ(run):
    averaged, raw = (load_file(run / name / "adapter" / "adapter_model.safetensors") for name in ("final", "final_raw"))
    assert averaged.keys() == raw.keys()
    assert not any(torch.equal(averaged[name], raw[name]) for name in averaged)


def test_ties_hold(base, run):
    model = MODEL.from_pretrained(run / "final")
    tables = {model.lm_head.weight.data_ptr(), *(table.weight.data_ptr() for table in _tables(model))}
    assert len(tables) == 1
    assert torch.equal(model.lm_head.weight, MODEL.from_pretrained(base).lm_head.weight)


def _tables(model) -> list:
    return [model.model.encoder.embed_tokens, model.model.decoder.embed_tokens]


def test_optimizer_holds_adapters_only(base, run):
    training = torch.load(run / "checkpoints" / "step-00000010" / "training.pt", weights_only=True)
    shapes = [tuple(state["exp_avg"].shape) for state in training["optimizer"]["state"].values()]
    assert shapes
    assert all(4 in shape for shape in shapes)
    assert len(shapes) == 2 * (4 + 2 + 8 + 2)  # A and B for each layer of encoder and decoder


def test_resume_is_exact(base, tmp_path):
    checkpoint = CheckpointConfig(Duration.parse("5 steps"))
    straight = adapted_experiment(tmp_path / "straight", base, checkpoint=checkpoint)
    train(straight, adapted(straight, base))
    killed = adapted_experiment(tmp_path / "killed", base, checkpoint=checkpoint)
    with pytest.raises(KilledError):
        train(killed, adapted(killed, base, kill_after(8)))
    resumed = dataclasses.replace(killed, resume="always")
    train(resumed, adapted(resumed, base))
    assert losses(tmp_path / "straight") == losses(tmp_path / "killed")
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "straight/final" / name).read_bytes() == (tmp_path / "killed/final" / name).read_bytes()


def run_without_dropout(folder: Path, base: Path) -> None:
    experiment = adapted_experiment(folder, base, peft=AdapterConfig(r=4), evaluation=EvaluationConfig(every=None))
    task = adapted(experiment, base)
    for module in task.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    train(experiment, task)


@pytest.mark.parametrize("shards", [None, "fsdp"])
def test_two_processes_give_the_same_adapters(base, tmp_path, shards):
    run_without_dropout(tmp_path / "one", base)
    in_processes(2, run_without_dropout, tmp_path / "two", base, shards=shards)
    one, two = (load_file(tmp_path / name / "final/adapter/adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=2e-5)
    assert weights(tmp_path / "two" / "final").keys() == weights(base).keys()


def test_recomputed_layers_give_the_same_gradients(base, tmp_path):
    for recompute in (False, True):
        experiment = adapted_experiment(tmp_path / str(recompute), base, gradient_checkpointing=recompute)
        train(experiment, adapted(experiment, base))
    plain, recomputed = (
        [record["grad_norm"] for record in records(tmp_path / name) if "grad_norm" in record]
        for name in ("False", "True")
    )
    assert plain == pytest.approx(recomputed, rel=1e-4)


@pytest.mark.parametrize("pooler", [True, False])
def test_a_new_head_is_trained_as_a_whole(tmp_path, pooler):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    config = VanillaEncoderConfig(vocab_size=20, num_labels=3, pooler=pooler, **shape)
    VanillaEncoderForSequenceClassification(config).save_pretrained(tmp_path / "base")
    ids = torch.randint(4, 20, (60, 7))
    experiment = adapted_experiment(tmp_path / "run", tmp_path / "base")
    task = dataclasses.replace(
        tiny_task(),
        model=VanillaEncoderForSequenceClassification.from_pretrained(tmp_path / "base"),
        make_batch=lambda rows, epoch: {"input_ids": ids[rows], "labels": ids[rows, 0] % 3},
        head=("classifier", "score", "pooler"),
    )
    train(experiment, with_adapters(task, experiment))
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "run/final"))
    head = {name for name in before if "classifier" in name or "pooler" in name}
    assert len(head) == (4 if pooler else 2)
    assert not any(torch.equal(before[name], after[name]) for name in head)

    fresh = VanillaEncoderForSequenceClassification.from_pretrained(tmp_path / "base")
    torch.nn.init.normal_(fresh.classifier.weight)  # the adapter brings the head
    found = PeftModel.from_pretrained(fresh, tmp_path / "run/final/adapter").eval()(ids[:8]).logits
    expected = VanillaEncoderForSequenceClassification.from_pretrained(tmp_path / "run/final").eval()(ids[:8]).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_model_in_training_stays_as_it_is(base, tmp_path):
    experiment = adapted_experiment(tmp_path, base)
    task = adapted(experiment, base)
    before = {name: tensor.clone() for name, tensor in task.model.train().state_dict().items()}
    merged(task.model, task.make_batch(range(4), 0))
    after = task.model.state_dict()
    assert task.model.training
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("fault", [0.1, float("nan")])
def test_a_merge_that_changes_the_logits_is_refused(base, tmp_path, monkeypatch, fault):
    task = adapted(adapted_experiment(tmp_path, base), base)
    merge = adapters._merge

    def faulty(model):
        merge(model)
        with torch.no_grad():
            model.model.decoder.layers[0].feed_forward.down_proj.weight[0] += fault

    monkeypatch.setattr(adapters, "_merge", faulty)
    with pytest.raises(UserError, match=r"merged gives other logits .* of the largest, where 0\.0001 is allowed"):
        task.save_model(task.model, _empty(tmp_path / "saved"))


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["lm_head"]}, "lm_head: its weights are tied to those of another layer"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens: its weights are tied"),
        ({"target_modules": ["q_proj", "query"]}, "query: the model has no such layer; there are embed_tokens, q_proj"),
        ({"r": 17}, "r=17: the rank of q_proj is 16 at most: lower peft.r"),
    ],
)
def test_refuses_layers_that_cannot_be_adapted(base, tmp_path, changes, message):
    experiment = adapted_experiment(tmp_path, base, peft=dataclasses.replace(PEFT, **changes))
    with pytest.raises(UserError, match=rf"^peft\.(target_modules: )?{message}"):
        adapted(experiment, base)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["peft.r=8"], r"peft\.r=8 .*: adapts a saved model: name it with model\.pretrained, or train all weights"),
        (["peft.r=0", "model.pretrained=x"], r"peft\.r=0 .*: must be 1 or greater, or null to train all weights"),
        (["peft.alpha=0"], r"peft\.alpha=0 .*: must be 1 or greater"),
        (["peft.dropout=1"], r"peft\.dropout=1\.0 .*: must be at least 0 and less than 1"),
        (["peft.target_modules=[]"], r"peft\.target_modules=\[\] .*: must name layers, or be null"),
        (["peft.target_modules=['']"], r"peft\.target_modules=\[''\] .*: must name layers, or be null"),
    ],
)
def test_refuses_wrong_settings(overrides, message):
    with pytest.raises(UserError, match=message):
        load_experiment(TranslationExperiment, "translation/toy", overrides)


def test_a_missing_library_is_named(base, tmp_path, monkeypatch):
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'PEFT is not installed: pip install "peft<1,>=\S+", or train'):
        check_adapters(adapted_experiment(tmp_path, base))
    check_adapters(tiny_experiment(tmp_path))


def test_without_a_rank_nothing_changes(tmp_path):
    task = tiny_task()
    assert with_adapters(task, tiny_experiment(tmp_path)) is task


def test_refuses_an_adapter_folder_as_a_model(run):
    with pytest.raises(UserError, match=r"adapter: there is no config\.json in it, so it is no model folder"):
        load_pretrained(MODEL, str(run / "final" / "adapter"), {})


def test_evaluations_see_the_adapters(base, tmp_path):
    experiment = adapted_experiment(tmp_path, base, evaluation=EvaluationConfig(Duration.parse("6 steps")))
    seen = []

    def predict(model, rows):
        seen.append(logits(model))
        return [None for _ in rows]

    task = adapted(experiment, base)
    validation = dataclasses.replace(task.validation, predict=predict)
    train(experiment, dataclasses.replace(task, validation=validation))
    assert not torch.equal(seen[0], seen[-1])
    torch.testing.assert_close(seen[-1], logits(MODEL.from_pretrained(tmp_path / "final")), rtol=1e-5, atol=1e-5)
