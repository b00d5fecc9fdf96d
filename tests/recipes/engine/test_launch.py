"""How a recipe starts, and how it ends when the user made a mistake."""

import pytest
import torch

from vanilla_transformers import VanillaEncoderConfig, VanillaEncoderModel
from vanilla_transformers.recipes.engine.experiment import Experiment
from vanilla_transformers.recipes.engine.launch import build_accelerator, program, set_attention
from vanilla_transformers.recipes.errors import UserError


def refuse(arguments):
    raise UserError(f"{arguments[0]}: there is no such configuration")


def test_mistake_is_one_line_and_status_1(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["recipe.py", "mine"])
    assert program(refuse, "recipes/translation.py") == 1
    assert capsys.readouterr().err == "error: mine: there is no such configuration\n"


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--help"], 0)])
def test_shows_its_usage(monkeypatch, capsys, arguments, status):
    monkeypatch.setattr("sys.argv", ["recipe.py", *arguments])
    assert program(refuse, "recipes/translation.py") == status
    assert capsys.readouterr().out == (
        "usage: python -m vanilla_transformers.recipes.translation CONFIG [key=value ...]\n"
    )


def test_precision_can_change_between_runs_of_a_process():
    assert build_accelerator(Experiment(precision="bf16")).mixed_precision == "bf16"
    assert build_accelerator(Experiment(precision="fp32")).mixed_precision == "no"


def test_refuses_a_launch_that_would_train_separate_models(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="the launcher started 2 processes but Accelerate sees 1"):
        build_accelerator(Experiment())


@pytest.mark.skipif(torch.accelerator.is_available(), reason="fp16 is refused only where there is no GPU")
def test_refuses_fp16_without_a_gpu():
    with pytest.raises(UserError, match="precision=fp16 needs a GPU: use bf16 or fp32"):
        build_accelerator(Experiment(precision="fp16"))


def test_refuses_flex_attention_on_a_cpu():
    config = VanillaEncoderConfig(hidden_size=16, num_attention_heads=2, intermediate_size=32, num_hidden_layers=1)
    model = VanillaEncoderModel(config)
    message = "attention=flex_attention: torch has no backward pass of it on a CPU: use auto, eager or sdpa"
    with pytest.raises(UserError, match=message):
        set_attention(model, Experiment(attention="flex_attention"), torch.device("cpu"))
    set_attention(model, Experiment(attention="auto"), torch.device("cpu"))
    assert model.config._attn_implementation == "eager"
