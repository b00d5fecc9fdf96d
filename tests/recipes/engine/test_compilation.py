"""Layers that are computed again in the backward pass, and compiled ones."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import KilledError, kill_after, losses, tiny_experiment, tiny_task, train, weights
from torch import nn

from vanilla_recipes.engine.compilation import as_written, prepare_layers
from vanilla_recipes.engine.step_errors import as_user_errors
from vanilla_recipes.errors import UserError
from vanilla_transformers.model.layers import VanillaLayer


def gradients(model: nn.Module, batch: dict) -> torch.Tensor:
    torch.manual_seed(0)
    model.zero_grad()
    model(**batch).loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_recomputed_layers_give_the_same_gradients(tmp_path):
    task = tiny_task(dropout=0.1)
    batch = task.make_batch(range(20), 0)
    task.model.train()
    calls = []
    task.model.model.encoder.layers[0].feed_forward.register_forward_hook(lambda *_: calls.append(1))
    plain = gradients(task.model, batch)
    assert len(calls) == 1
    prepare_layers(task.model, tiny_experiment(tmp_path, gradient_checkpointing=True))
    recomputed = gradients(task.model, batch)
    assert len(calls) == 3
    assert (recomputed - plain).norm() / plain.norm() < 1e-6


def test_run_with_recomputed_layers_equals_one_without(tmp_path):
    train(tiny_experiment(tmp_path / "plain"))
    train(tiny_experiment(tmp_path / "less", gradient_checkpointing=True))
    assert losses(tmp_path / "less") == pytest.approx(losses(tmp_path / "plain"), rel=1e-6)


def test_may_be_switched_on_where_a_run_goes_on(tmp_path):
    with pytest.raises(KilledError):
        train(tiny_experiment(tmp_path / "run"), kill_after(7))
    train(tiny_experiment(tmp_path / "run", resume="always", gradient_checkpointing=True))
    assert max(losses(tmp_path / "run")) == 12


def test_refuses_a_model_without_layers_to_recompute(tmp_path):
    message = r"^gradient_checkpointing=true: Linear has no layers that can be recomputed$"
    with pytest.raises(UserError, match=message):
        prepare_layers(nn.Linear(2, 2), tiny_experiment(tmp_path, gradient_checkpointing=True))


def test_compiled_layers_keep_their_names(tmp_path):
    compiled, plain = tiny_task().model, tiny_task().model
    prepare_layers(compiled, tiny_experiment(tmp_path, compile=True))
    layers = [module for module in compiled.modules() if isinstance(module, VanillaLayer)]
    assert all(layer._compiled_call_impl is not None for layer in layers)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert [name for name, _ in compiled.named_modules()] == [name for name, _ in plain.named_modules()]


def test_scores_come_from_layers_as_they_are_written(tmp_path):
    experiment = tiny_experiment(tmp_path, compile=True)
    task = tiny_task()
    plain = task.model.eval()(**task.make_batch(range(5), 0)).logits
    prepare_layers(task.model, experiment)
    with as_written(experiment):  # compiling would take half a minute here
        assert torch.equal(task.model(**task.make_batch(range(5), 0)).logits, plain)


def test_compiler_that_does_not_work_is_one_clear_line():
    class CompilerError(RuntimeError):
        __module__ = "torch._dynamo.exc"

    message = r"^step 1: compile=true: torch cannot compile the layers here: no working C\+\+ compiler$"
    with pytest.raises(UserError, match=message), as_user_errors("step 1", ""):
        raise CompilerError("no working\n C++ compiler")


@pytest.mark.slow
def test_compiled_run_learns_the_same_and_resumes_bit_for_bit(tmp_path):
    plain = tiny_experiment(tmp_path / "plain")
    compiled = tiny_experiment(tmp_path / "compiled", compile=True)
    train(plain, tiny_task(dropout=0.0))
    train(compiled, tiny_task(dropout=0.0))
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
    assert not any("_orig_mod" in name for name in load_file(tmp_path / "compiled" / "final" / "model.safetensors"))
    with_dropout = [tiny_experiment(tmp_path / name, compile=True) for name in ("straight", "killed")]
    train(with_dropout[0])
    with pytest.raises(KilledError):
        train(with_dropout[1], kill_after(7))
    train(dataclasses.replace(with_dropout[1], resume="always"))
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")
    killed, straight = weights(tmp_path / "killed" / "final"), weights(tmp_path / "straight" / "final")
    assert all(torch.equal(killed[name], straight[name]) for name in straight)
