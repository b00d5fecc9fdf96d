"""How a recipe starts, and how it ends when the user made a mistake."""

import os
import re

import pytest
import torch
from two_processes import in_processes

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.attention_kernel import set_attention
from vanilla_recipes.processes.launch import build_accelerator, program
from vanilla_recipes.settings.experiment import BatchConfig, Experiment
from vanilla_transformers import VanillaEncoderConfig, VanillaEncoderModel
from vanilla_transformers.fast import packed_kernel as varlen


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
    assert capsys.readouterr().out == ("usage: python -m vanilla_recipes.translation CONFIG [key=value ...]\n")


def test_precision_can_change_between_runs_of_a_process():
    assert build_accelerator(Experiment(precision="bf16")).mixed_precision == "bf16"
    assert build_accelerator(Experiment(precision="fp32")).mixed_precision == "no"


def test_refuses_a_launch_that_would_train_separate_models(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="the launcher started 2 processes but Accelerate sees 1"):
        build_accelerator(Experiment())


CONTRADICTIONS = {
    "mixed_precision=bf16 in accelerate's configuration, but precision=fp32: leave mixed_precision out, and set": {
        "ACCELERATE_MIXED_PRECISION": "bf16"
    },
    "gradient_accumulation_steps in accelerate's configuration: set it to 1, and use batch.micro_batches": {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"
    },
    "dynamo_backend in accelerate's configuration: leave it out, and use compile=true": {
        "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"
    },
    "fsdp_activation_checkpointing in accelerate's configuration: set gradient_checkpointing=true instead": {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"
    },
    "accelerate's configuration asks for the first version of FSDP: set fsdp_version: 2": {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"
    },
    "accelerate's configuration asks for Megatron-LM, which these recipes do not train with: use DDP or FSDP2": {
        "ACCELERATE_USE_MEGATRON_LM": "true"
    },
    "FSDP was asked for, but Accelerate would train without it: it needs a GPU for each process": {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"
    },
    "accelerate launch was asked for several processes but starts one if it is set to use the CPU": {
        "ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "a", "MASTER_PORT": "29500"
    },
}  # fmt: skip


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_refuses_a_launch_that_would_do_something_else(monkeypatch, message):
    for name, value in CONTRADICTIONS[message].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        build_accelerator(Experiment())


def meet_without_address() -> str:
    del os.environ["MASTER_ADDR"]
    os.environ |= {"WORLD_SIZE": "2", "MASTER_PORT": "29500"}
    with pytest.raises(UserError) as caught:
        build_accelerator(Experiment())
    return str(caught.value)


def test_tells_where_the_processes_did_not_meet():
    (message,) = in_processes(1, meet_without_address)
    assert message.startswith("the 2 processes did not find each other at MASTER_ADDR=None, MASTER_PORT=29500: ")
    assert "`MASTER_ADDR` env was not set" in message


def test_takes_what_accelerate_launch_sets_for_one_process(monkeypatch):
    for name, value in {
        "ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_CPU": "False"
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert build_accelerator(Experiment(precision="bf16")).mixed_precision == "bf16"


def test_refuses_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="process 2 of this machine needs a GPU of its own but sees 2: start no more"):
        build_accelerator(Experiment())


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_first_process_tells_of_a_mistake(monkeypatch, capsys, rank):
    monkeypatch.setattr("sys.argv", ["recipe.py", "mine"])
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert program(refuse, "recipes/translation.py") == 1
    assert capsys.readouterr().err.count("\n") == (rank == "0")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="fp16 is refused only where there is no GPU")
def test_refuses_fp16_without_a_gpu():
    with pytest.raises(UserError, match="precision=fp16 needs a GPU: use bf16 or fp32"):
        build_accelerator(Experiment(precision="fp16"))


def tiny_encoder(**knobs):
    sizes = dict(hidden_size=16, num_attention_heads=2, intermediate_size=32, num_hidden_layers=1)
    return VanillaEncoderModel(VanillaEncoderConfig(**sizes, **knobs))


def test_refuses_flex_attention_on_a_cpu():
    model = tiny_encoder()
    message = "attention=flex_attention has no backward pass on a CPU: use auto, eager or sdpa"
    with pytest.raises(UserError, match=message):
        set_attention(model, Experiment(attention="flex_attention"), torch.device("cpu"))
    set_attention(model, Experiment(attention="auto"), torch.device("cpu"))
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("settings", "dropout", "kernel"),
    [
        (dict(precision="bf16", batch=BatchConfig(packing=True)), 0, "torch_varlen"),
        (dict(precision="bf16", batch=BatchConfig(packing=True, pack_length=64)), 0, "torch_varlen"),
        (dict(precision="bf16", batch=BatchConfig(packing=True, pack_length=64)), 0.1, "sdpa"),
        (dict(precision="fp32", batch=BatchConfig(packing=True, pack_length=64)), 0, "sdpa"),
        (dict(precision="bf16"), 0, "sdpa"),
    ],
)
def test_kernel_of_a_gpu_for_packed_rows(settings, dropout, kernel, monkeypatch):
    monkeypatch.setattr(varlen, "_has_kernel", lambda device: True)
    model = tiny_encoder(attention_probs_dropout_prob=dropout)
    set_attention(model, Experiment(**settings), torch.device("cuda"))
    assert model.config._attn_implementation == kernel


@pytest.mark.parametrize(
    ("settings", "dropout", "device", "message"),
    [
        ({}, 0, "cpu", "needs an NVIDIA GPU of compute capability 8.0 or higher; otherwise use auto, eager or sdpa"),
        ({}, 0, "cuda", "computes in bf16 or fp16, not in float32; otherwise use auto, eager or sdpa"),
        (
            dict(precision="bf16"),
            0.1,
            "cuda",
            "has no dropout on attention weights: set attention_probs_dropout_prob to",
        ),
        (dict(precision="bf16"), 0, "cuda", "is for packed rows: set batch.packing=true, or use auto, eager or sdpa"),
    ],
)
def test_refuses_the_kernel_for_packed_rows_where_it_has_no_use(settings, dropout, device, message, monkeypatch):
    monkeypatch.setattr(varlen, "_has_kernel", lambda device: device.type == "cuda")
    model = tiny_encoder(attention_probs_dropout_prob=dropout)
    with pytest.raises(UserError, match=f"attention=torch_varlen {message}"):
        set_attention(model, Experiment(attention="torch_varlen", **settings), torch.device(device))
