"""Every recipe goes on from a stock model of transformers, which stays one: full training and LoRA."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stock_models
import torch
import transformers
from accelerate import Accelerator
from tiny_settings import TINY
from torch import nn

from vanilla_recipes.engine.step import Gradients, Loss
from vanilla_recipes.engine.task import Task
from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.config_files import load_experiment

KINDS: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "classification-bert": ("classification", stock_models.save_encoder, "BertForSequenceClassification"),
    "classification-distilbert": (
        "classification",
        lambda folder: stock_models.save_encoder(folder, "distilbert"),
        "DistilBertForSequenceClassification",
    ),
    "masked_lm-bert": ("masked_lm", stock_models.save_encoder, "BertForMaskedLM"),
    "masked_lm-roberta": (
        "masked_lm", lambda folder: stock_models.save_encoder(folder, "roberta"), "RobertaForMaskedLM",
    ),
    "generation-gpt2": ("generation", stock_models.save_gpt2, "GPT2LMHeadModel"),
    "translation-marian": ("translation", stock_models.save_marian, "MarianMTModel"),
}  # fmt: skip
NO_DROPOUT = ["model.hidden_dropout_prob=0", "model.attention_probs_dropout_prob=0"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Callable[[str], Path]:
    """Saves the stock model of a kind once."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = KINDS[kind][1](tmp_path_factory.mktemp(kind) / "stock")
        return made[kind]

    return folder


def overrides_of(kind: str, folder: Path, *overrides: str) -> list[str]:
    recipe = KINDS[kind][0]
    lengths = {
        "classification": ["tokenizer.max_length=64"],
        "masked_lm": ["data.block_size=64"],
        "generation": ["data.block_size=64", "generation.prompts=[The]", "generation.max_new_tokens=2"],
        "translation": ["tokenizer.max_source_length=64", "tokenizer.max_target_length=64"],
    }
    return [*TINY, *lengths[recipe], f"model.pretrained={folder}", *overrides]


def setup(kind: str, folder: Path, *overrides: str) -> Task:
    module = importlib.import_module(f"vanilla_recipes.{KINDS[kind][0]}")
    experiment_class = next(value for name, value in vars(module).items() if name.endswith("Experiment") and
                            value.__module__ == module.__name__)  # fmt: skip
    experiment = load_experiment(experiment_class, f"{KINDS[kind][0]}/toy", overrides_of(kind, folder, *overrides))
    return module.setup(experiment)


def run(kind: str, folder: Path, output: Path, *overrides: str) -> Path:
    main = importlib.import_module(f"vanilla_recipes.{KINDS[kind][0]}").main
    arguments = [f"{KINDS[kind][0]}/toy", *overrides_of(kind, folder, *overrides), f"output_dir={output}"]
    assert main(arguments) == 0
    return output


def gradients(task: Task, num_micro: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of eight rows and its gradients, the rows cut into micro-batches."""
    task.model.train().zero_grad()
    step = Gradients(task, Loss(task.model), Accelerator(cpu=True))
    micro_batches = step.cut([torch.arange(8).numpy()], 0, num_micro)
    loss = step.add_up(micro_batches, step.num_targets(micro_batches), step=0)
    return loss.item(), {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_does_not_depend_on_how_a_batch_is_cut(kind, folders):
    task = setup(kind, folders(kind), *NO_DROPOUT)
    assert type(task.model).__name__ == KINDS[kind][2]
    whole_loss, whole = gradients(task, 1)
    cut_loss, cut = gradients(task, 4)
    assert cut_loss == pytest.approx(whole_loss, rel=1e-6)
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "translation-marian"])
def test_the_loss_is_what_the_stock_class_says(kind, folders):
    """Of one batch with nothing cut, the mean that the stock class itself computes."""
    task = setup(kind, folders(kind), *NO_DROPOUT)
    batch = dict(task.make_batch(torch.arange(8).numpy(), 0))
    loss = Loss(task.model.eval())(batch, torch.tensor(float(task.num_targets(batch))))
    assert loss.item() == pytest.approx(stock_loss(task.model, batch).item(), rel=1e-5)


def stock_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    positions = batch.pop("masked_positions", None)
    if positions is not None:
        labels = torch.full_like(batch["input_ids"], -100)
        labels.view(-1)[positions] = batch["labels"]
        batch["labels"] = labels
    if "shift_labels" in batch:  # position t of the labels is what position t - 1 foretells
        shifted = batch.pop("shift_labels")
        batch["labels"] = torch.cat((torch.full((len(shifted), 1), -100), shifted[:, :-1]), dim=1)
        logits = model(input_ids=batch["input_ids"]).logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), shifted.flatten())
    return model(**batch).loss


def test_marian_learns_with_label_smoothing_and_its_own_shift(folders):
    task = setup("translation-marian", folders("translation-marian"), *NO_DROPOUT, "model.label_smoothing=0.1")
    batch = task.make_batch(torch.arange(8).numpy(), 0)
    loss = Loss(task.model.train())(batch, torch.tensor(float(task.num_targets(batch))))
    output = task.model(**batch)  # shifts the labels itself
    smoothed = nn.functional.cross_entropy(
        output.logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100, label_smoothing=0.1
    )
    assert loss.item() == pytest.approx(smoothed.item(), rel=1e-5)
    plain = Loss(task.model.eval())(batch, torch.tensor(float(task.num_targets(batch))))
    assert plain.item() == pytest.approx(output.loss.item(), rel=1e-5)


def test_marian_reads_targets_with_its_target_model(folders):
    folder = folders("translation-marian")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    task = setup("translation-marian", folder, *NO_DROPOUT)
    labels = task.make_batch(torch.arange(3).numpy(), 0)["labels"]
    for row in labels:
        ids = row[row != -100].tolist()
        assert ids[-1] == tokenizer.eos_token_id
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert tokenizer(text_target=text)["input_ids"] == ids
        assert tokenizer.unk_token_id not in ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_a_stock_model(kind, folders, tmp_path):
    folder = folders(kind)
    best = run(kind, folder, tmp_path / "run") / "best"
    model_class = getattr(transformers, KINDS[kind][2])
    saved, report = model_class.from_pretrained(best, output_loading_info=True)
    assert report["missing_keys"] == report["unexpected_keys"] == set()
    assert "auto_map" not in saved.config.to_dict()
    assert not any(path.suffix == ".py" for path in best.iterdir())
    before = model_class.from_pretrained(folder).base_model.state_dict()
    after = saved.base_model.state_dict()
    assert any(not torch.equal(after[name], before[name]) for name in after)
    transformers.AutoTokenizer.from_pretrained(best)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_on_a_stock_model(kind, folders, tmp_path):
    """The merged model is the stock class again, and what PEFT makes of the stock model and the adapter."""
    from peft import PeftModel

    folder = folders(kind)
    best = run(kind, folder, tmp_path / "run", "peft.r=4") / "best"
    model_class = getattr(transformers, KINDS[kind][2])
    saved = model_class.from_pretrained(best).eval()
    found = PeftModel.from_pretrained(model_class.from_pretrained(folder, config=saved.config), best / "adapter").eval()
    ids = torch.randint(10, 100, (3, 9))
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if saved.config.is_encoder_decoder else {})
    with torch.inference_mode():
        torch.testing.assert_close(found(**inputs).logits, saved(**inputs).logits, rtol=0, atol=1e-5)
        base = model_class.from_pretrained(folder, config=saved.config).eval()
        assert not torch.allclose(base(**inputs).logits, saved(**inputs).logits, atol=1e-3)
    kept = set(found.peft_config["default"].modules_to_save or ())
    heads = {
        "classification-bert": {"pooler", "classifier"},
        "classification-distilbert": {"pre_classifier", "classifier"},
    }
    assert kept == heads.get(kind, set())
    head = saved.get_output_embeddings()
    if head is not None:
        assert head.weight is saved.get_input_embeddings().weight


# Bad input


@pytest.mark.parametrize(
    ("kind", "base", "overrides", "text"),
    [
        ("generation-gpt2", "masked_lm-bert", [], "is a BertForMaskedLM, which is trained for another task than"),
        ("masked_lm-bert", "generation-gpt2", [], "is a gpt2 model; give a vanilla_encoder model, or a stock model"),
        ("translation-marian", "masked_lm-bert", [], "is a bert model; give a vanilla_seq2seq model, or a stock"),
        ("classification-bert", "classification-bert", ["tokenizer.max_length=129"], "has positions for 128 tokens"),
        ("masked_lm-roberta", "masked_lm-roberta", ["data.block_size=129"], "the model has positions for 128 tokens"),
        ("classification-bert", "generation-gpt2", [], "the tokenizer has no padding token; save it with one"),
    ],
)  # fmt: skip
def test_what_does_not_suit_is_refused(kind, base, overrides, text, folders):
    with pytest.raises(UserError) as caught:
        setup(kind, folders(base), *overrides)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_packing_is_for_the_models_of_this_package(folders, tmp_path):
    options = ["batch.packing=true", "batch.pack_length=128", "data.layout=documents"]
    with pytest.raises(UserError, match=r"batch\.packing=true: a GPT2LMHeadModel does not keep packed rows apart"):
        run("generation-gpt2", folders("generation-gpt2"), tmp_path, *options)


@pytest.mark.parametrize("lost", ["source.spm", "vocab.json"])
def test_a_tokenizer_with_a_lost_file(lost, folders, tmp_path):
    folder = Path(shutil.copytree(folders("translation-marian"), tmp_path / "copy"))
    (folder / lost).unlink()
    with pytest.raises(UserError, match=r"^model\.pretrained=.*copy: the tokenizer.* cannot be loaded: ") as caught:
        setup("translation-marian", folder)
    assert "\n" not in str(caught.value)
