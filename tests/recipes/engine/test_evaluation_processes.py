"""Every recipe scores each of its rows once, and comes to the same scores, on any number of processes."""

import pytest
import torch
from two_processes import in_processes

from vanilla_recipes import classification, generation, masked_lm, translation
from vanilla_recipes.engine.evaluation import evaluate
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.settings.config_files import load_experiment
from vanilla_transformers.text.batches import length_sorted_batches

NUM_ROWS = 21
BATCH_TOKENS = 120  # five batches or more
TINY = [
    "precision=fp32", "data.num_train_rows=100", f"data.num_validation_rows={NUM_ROWS}", "data.test_split=null",
    "tokenizer.vocab_size=400", "model.hidden_size=16", "model.num_attention_heads=2", "model.intermediate_size=32",
]  # fmt: skip
RECIPES = {
    "translation": (translation, translation.TranslationExperiment, ["tokenizer.max_target_length=16"]),
    "classification": (classification, classification.ClassificationExperiment, []),
    "generation": (generation, generation.GenerationExperiment, ["data.layout=documents"]),
    "masked_lm": (masked_lm, masked_lm.MaskedLMExperiment, []),
}


def score_all() -> dict[str, dict]:
    """The scores of the validation rows by an untrained model of each recipe."""
    found = {}
    for name, (recipe, experiment_class, own) in RECIPES.items():
        experiment = load_experiment(experiment_class, f"{name}/toy", [*TINY, *own])
        accelerator = build_accelerator(experiment)
        task = recipe.setup(experiment)
        torch.manual_seed(accelerator.process_index)  # chance of their own must not tell the processes apart
        assert len(length_sorted_batches(task.validation.lengths, BATCH_TOKENS)) >= 5
        found[name] = evaluate(task.model.eval(), task.validation, BATCH_TOKENS, accelerator)
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    (scores,) = in_processes(1, score_all)
    return scores


@pytest.mark.parametrize("num_processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_scores_do_not_depend_on_processes(alone, num_processes):
    assert in_processes(num_processes, score_all) == [alone] * num_processes


def test_each_row_is_scored_once(alone):
    assert {name: scores["rows"] for name, scores in alone.items()} == dict.fromkeys(RECIPES, NUM_ROWS)
