"""The FLOPs of a training step against torch's own counter, and the peaks of devices."""

import dataclasses

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from vanilla_recipes.reports.flops import TrainingFlops, known_peak, peak_tflops
from vanilla_recipes.settings.experiment import Experiment, TrackingConfig
from vanilla_transformers import (
    VanillaDecoderConfig,
    VanillaDecoderForCausalLM,
    VanillaEncoderConfig,
    VanillaEncoderForMaskedLM,
    VanillaEncoderForSequenceClassification,
    VanillaSeq2SeqConfig,
    VanillaSeq2SeqForConditionalGeneration,
)

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
ROWS, SOURCE, TARGET = 3, 40, 17


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(4, 50, shape)


def counted(model, **batch) -> int:
    """The FLOPs of a forward and backward pass that torch counts."""
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        model.train()(**batch).loss.backward()
    return counter.get_total_flops()


def test_encoder_decoder():
    config = VanillaSeq2SeqConfig(encoder_layers=2, decoder_layers=3, **SIZES)
    model = VanillaSeq2SeqForConditionalGeneration(config)
    expected = counted(model, input_ids=ids(ROWS, SOURCE), labels=ids(ROWS, TARGET))
    assert TrainingFlops(model)(np.array([[SOURCE, TARGET]] * ROWS), ROWS * TARGET) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("model_class", "config_class"),
    [(VanillaDecoderForCausalLM, VanillaDecoderConfig), (VanillaEncoderForMaskedLM, VanillaEncoderConfig)],
)
def test_language_models_of_one_stack(model_class, config_class):
    model = model_class(config_class(num_hidden_layers=2, **SIZES))
    batch = ids(ROWS, SOURCE)
    expected = counted(model, input_ids=batch, labels=batch)
    assert TrainingFlops(model)(np.array([[SOURCE]] * ROWS), ROWS * SOURCE) == pytest.approx(expected, rel=0.02)


def test_masked_language_model_counts_its_head_for_the_masked_tokens():
    model = VanillaEncoderForMaskedLM(VanillaEncoderConfig(num_hidden_layers=2, **SIZES))
    masked = torch.tensor([3, 7, 50, 99])
    expected = counted(model, input_ids=ids(ROWS, SOURCE), masked_positions=masked, labels=ids(4))
    assert TrainingFlops(model)(np.array([[SOURCE]] * ROWS), len(masked)) == pytest.approx(expected, rel=0.02)


def test_classifier():
    model = VanillaEncoderForSequenceClassification(VanillaEncoderConfig(num_hidden_layers=2, num_labels=3, **SIZES))
    expected = counted(model, input_ids=ids(ROWS, SOURCE), labels=torch.tensor([0, 1, 2]))
    assert TrainingFlops(model)(np.array([[SOURCE]] * ROWS), ROWS) == pytest.approx(expected, rel=0.02)


def test_rows_of_different_lengths_add_up():
    model = VanillaDecoderForCausalLM(VanillaDecoderConfig(num_hidden_layers=2, **SIZES))
    flops = TrainingFlops(model)
    both = flops(np.array([[SOURCE], [TARGET]]), SOURCE + TARGET)
    assert both == pytest.approx(flops(np.array([[SOURCE]]), SOURCE) + flops(np.array([[TARGET]]), TARGET))


def test_frozen_weights_have_no_gradient_to_compute():
    model = VanillaDecoderForCausalLM(VanillaDecoderConfig(num_hidden_layers=8, **SIZES))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    batch = ids(ROWS, SOURCE)
    expected = counted(adapted, input_ids=batch, labels=batch)
    # In the first layer, nothing below asks for the gradient of the input.
    assert TrainingFlops(adapted)(np.array([[SOURCE]] * ROWS), ROWS * SOURCE) == pytest.approx(expected, rel=0.04)


def test_close_to_six_per_weight_in_a_large_model():
    with torch.device("meta"):
        model = VanillaDecoderForCausalLM(VanillaDecoderConfig())  # GPT-2 small
    per_token = TrainingFlops(model)(np.array([[1024]]), 1024) / 1024
    # PaLM, appendix B: 6 N + 12 L H Q T, N without the tables, which the tied projection to the vocabulary adds again.
    num_weights = 12 * (12 * 768**2) + 50257 * 768
    assert per_token == pytest.approx(6 * num_weights + 12 * 12 * 768 * 1024, rel=0.001)


# Peaks


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "fp16", 756.0),
        ("NVIDIA A100-SXM4-40GB", "bf16", 312.0),
        ("NVIDIA A100 80GB PCIe", "fp32", 19.5),
        ("NVIDIA L4", "bf16", 121.0),
        ("NVIDIA L40S", "bf16", 362.05),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("Tesla T4", "fp16", 65.0),
        ("Tesla T4", "bf16", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16", None),
        ("AMD Instinct MI300X", "bf16", None),
    ],
)
def test_known_peaks(name, precision, expected):
    assert known_peak(name, precision) == expected


def test_tensor_float_32_has_a_peak_of_its_own():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert known_peak("NVIDIA A100-SXM4-80GB", "fp32") == 156.0
        assert known_peak("Tesla T4", "fp32") == 8.1
    finally:
        torch.set_float32_matmul_precision(before)


def peak_on_cpu(asked) -> float | None:
    experiment = dataclasses.replace(Experiment(), tracking=TrackingConfig(peak_tflops=asked))
    return peak_tflops(experiment, torch.device("cpu"))


def test_peak_of_a_cpu_is_given_or_measured_but_never_guessed():
    assert peak_on_cpu(None) is None
    assert peak_on_cpu(0.25) == 0.25
    assert 1e-4 < peak_on_cpu("measured") < 100
