"""Model FLOPs utilization: the share of a device's peak that a run puts to use.

    MFU = model FLOPs of the steps / (seconds x peak FLOP/s x devices)

The model FLOPs are those that the mathematics of a training step needs, as in appendix B of the PaLM paper (Chowdhery
et al. 2022), which follows Kaplan et al. (2020): 6 for each weight of a linear layer and each token that passes it, 2
in the forward and 4 in the backward pass, and 12 x layers x width x queries x keys for the attention of a row.

- Source tokens pass the encoder and the keys and values of cross attention, target tokens all else of a decoder.
- Token and position tables are looked up, not multiplied, and are not counted; the projection to the vocabulary is,
  also where its weights are those of the table: for every target token, in masked-language modelling for the masked.
- A causal mask does not halve the attention. Padding and the recomputation of checkpointed layers are no use: they
  lower the MFU. Weights that stay as they are, such as those under LoRA, need 4 FLOPs, not 6.
"""

import re
import time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from vanilla_recipes.settings.experiment import Experiment

_MULTIPLY_ADD = 2  # FLOPs
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingFlops:
    """The FLOPs of forward and backward pass of a model of the three families with the head of a recipe."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        is_masked_lm = not config.is_encoder_decoder and any("transform." in name for name, _ in linears)
        self._per_unit = dict.fromkeys(("source", "target", "label", "row"), 0.0)
        for name, linear in linears:
            num_products = 3 if linear.weight.requires_grad else 2  # the output, the input's and the weight's gradient
            cost = _MULTIPLY_ADD * num_products * linear.in_features * linear.out_features
            self._per_unit[_unit(name, is_masked_lm)] += cost
        attention = 2 * _MULTIPLY_ADD * 3 * config.hidden_size  # scores and weighted sum
        self._is_encoder_decoder = config.is_encoder_decoder
        self._encoder_attention = attention * config.num_hidden_layers
        self._decoder_attention = attention * getattr(config, "decoder_layers", 0)

    def __call__(self, lengths: NDArray, num_targets: float) -> float:
        """The FLOPs of a step.

        Args:
            lengths: real tokens of its rows, shape (rows, sides); of two sides the second is the target.
            num_targets: its targets.
        """
        source, target = lengths[:, 0].astype(np.float64), lengths[:, -1].astype(np.float64)
        counts = {"source": source.sum(), "target": target.sum(), "label": num_targets, "row": len(lengths)}
        linears = sum(cost * counts[unit] for unit, cost in self._per_unit.items())
        attention = self._encoder_attention * (source @ source)
        if self._is_encoder_decoder:
            attention += self._decoder_attention * (target @ target + source @ target)
        return float(linears + attention)


def _unit(name: str, is_masked_lm: bool) -> str:
    """What passes a linear layer of this name: source tokens, target tokens, labels, or one vector a row."""
    if "layers." in name:
        is_source = "encoder." in name or re.search(r"cross_attn\.[kv]_proj", name)
        return "source" if is_source else "target"
    if is_masked_lm:
        return "label"
    return "target" if "lm_head" in name else "row"


class _Peaks(NamedTuple):
    """Dense peak in TFLOP/s by precision, products added up in fp32; None where the device has no such units."""

    bf16: float | None
    fp16: float
    tf32: float | None
    fp32: float


# By the name that the driver gives a device, which must match as a whole: laptop editions and slices of a GPU differ.
# Sources: NVIDIA's data sheets of each product (figures "with sparsity" halved), for GeForce and RTX cards the
# appendices of the white papers of the Ampere, Ada and Blackwell architectures.
_KNOWN_GPUS = {
    r"NVIDIA B200": _Peaks(2250.0, 2250.0, 1125.0, 75.0),
    r"NVIDIA H200|NVIDIA H100 80GB HBM3": _Peaks(989.4, 989.4, 494.7, 66.9),
    r"NVIDIA H200 NVL|NVIDIA H100 NVL": _Peaks(835.5, 835.5, 417.5, 60.0),
    r"NVIDIA H100 PCIe": _Peaks(756.0, 756.0, 378.0, 51.0),
    r"(NVIDIA )?A100-(SXM4|SXM|PCIE|PG509)-\d+GB|NVIDIA A100 80GB PCIe": _Peaks(312.0, 312.0, 156.0, 19.5),
    r"NVIDIA A40": _Peaks(149.7, 149.7, 74.8, 37.4),
    r"NVIDIA A30": _Peaks(165.0, 165.0, 82.0, 10.3),
    r"NVIDIA A10": _Peaks(125.0, 125.0, 62.5, 31.2),
    r"NVIDIA L4": _Peaks(121.0, 121.0, 60.0, 30.3),
    r"NVIDIA L40": _Peaks(181.05, 181.05, 90.5, 90.5),
    r"NVIDIA L40S": _Peaks(362.05, 362.05, 183.0, 91.6),
    r"NVIDIA RTX A6000": _Peaks(154.8, 154.8, 77.4, 38.7),
    r"NVIDIA GeForce RTX 3090": _Peaks(71.0, 71.0, 35.6, 35.6),
    r"NVIDIA GeForce RTX 4090": _Peaks(165.2, 165.2, 82.6, 82.6),
    r"NVIDIA GeForce RTX 5090": _Peaks(209.5, 209.5, 104.8, 104.8),
    r"(NVIDIA )?Tesla T4": _Peaks(None, 65.0, None, 8.1),
    r"(NVIDIA )?Tesla V100-(SXM2|SXM3)-\d+GB": _Peaks(None, 125.0, None, 15.7),
    r"(NVIDIA )?Tesla V100-PCIE-\d+GB": _Peaks(None, 112.0, None, 14.0),
}


def peak_tflops(experiment: Experiment, device: torch.device) -> float | None:
    """The peak of one device in TFLOP/s at the precision of the run; None where nobody knows it.

    It is `tracking.peak_tflops` if that is a number, what a matrix product reaches if it is `measured`, else what the
    maker of a known GPU states.
    """
    asked = experiment.tracking.peak_tflops
    if asked == "measured":
        return _measured(device, _DTYPES[experiment.precision])
    if asked is not None:
        return float(asked)
    return known_peak(torch.cuda.get_device_name(device), experiment.precision) if device.type == "cuda" else None


def known_peak(device_name: str, precision: str) -> float | None:
    """The stated peak of a GPU in TFLOP/s for `fp32`, `bf16` or `fp16`; None for a GPU that is not in the table."""
    peaks = next((peaks for names, peaks in _KNOWN_GPUS.items() if re.fullmatch(names, device_name)), None)
    if peaks is None:
        return None
    if precision == "fp32" and torch.get_float32_matmul_precision() != "highest":
        return peaks.tf32 or peaks.fp32
    return getattr(peaks, precision)


def _measured(device: torch.device, dtype: torch.dtype, size: int = 1024, seconds: float = 0.5) -> float:
    """The best rate in TFLOP/s of square matrix products."""
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for a device that computes on its own
        best = min(best, time.perf_counter() - start)
    return _MULTIPLY_ADD * size**3 / best / 1e12
