"""Model FLOPs utilization (MFU): the fraction of the devices' peak FLOP/s that a run uses.

    MFU = model FLOPs of the steps / (seconds x peak FLOP/s x devices)

Model FLOPs are the FLOPs that the mathematics of a training step requires. They are counted as in appendix B of the
PaLM paper (Chowdhery et al. 2022), which follows Kaplan et al. (2020). A linear layer takes, for each weight and each
token, 2 FLOPs in the forward pass and 4 in the backward pass. The attention of a row takes 12 x layers x width x
queries x keys FLOPs.

- The encoder and the key and value projections of cross-attention process source tokens. All other layers of a decoder
  process target tokens.
- Token and position embeddings are table look-ups and do not count. The projection to the vocabulary counts, even if
  its weights are tied to the embedding: once per target token, and in masked-language modeling once per masked token.
- A causal mask does not halve the FLOPs of attention. Padding and the recomputation of gradient checkpointing do not
  count as model FLOPs, so they lower the MFU.
- Frozen weights, such as those under LoRA, need 4 FLOPs a token instead of 6.
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
from vanilla_recipes.settings.precision import HALF_DTYPES

_MULTIPLY_ADD = 2  # FLOPs of one multiply-add
_DTYPES = {"fp32": torch.float32} | HALF_DTYPES


class TrainingFlops:
    """Counts the model FLOPs of training steps of one of this package's models.

    Args:
        model: a model of one of the three families, with the head of a recipe.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        is_masked_lm = not config.is_encoder_decoder and any("transform." in name for name, _ in linears)
        self._per_unit = dict.fromkeys(("source", "target", "label", "row"), 0.0)
        for name, linear in linears:
            num_products = 3 if linear.weight.requires_grad else 2  # output, input gradient, weight gradient
            cost = _MULTIPLY_ADD * num_products * linear.in_features * linear.out_features
            self._per_unit[_unit(name, is_masked_lm)] += cost
        # The 2 products are the scores and the weighted sum. Each product is computed once, and has 2 gradients.
        attention = 2 * _MULTIPLY_ADD * 3 * config.hidden_size
        self._is_encoder_decoder = config.is_encoder_decoder
        self._encoder_attention = attention * config.num_hidden_layers
        self._decoder_attention = attention * getattr(config, "decoder_layers", 0)

    def __call__(self, lengths: NDArray, num_targets: float) -> float:
        """The model FLOPs of an optimizer step.

        Args:
            lengths: number of tokens of each row of the step, without padding, shape (rows, sides). The last side is
                the target.
            num_targets: number of targets of the step.
        """
        source, target = lengths[:, 0].astype(np.float64), lengths[:, -1].astype(np.float64)
        counts = {"source": source.sum(), "target": target.sum(), "label": num_targets, "row": len(lengths)}
        linears = sum(cost * counts[unit] for unit, cost in self._per_unit.items())
        attention = self._encoder_attention * (source @ source)
        if self._is_encoder_decoder:
            attention += self._decoder_attention * (target @ target + source @ target)
        return float(linears + attention)


def _unit(name: str, is_masked_lm: bool) -> str:
    """The unit that the linear layer of this name processes: source tokens, target tokens, labels, or rows."""
    if "layers." in name:
        is_source = "encoder." in name or re.search(r"cross_attn\.[kv]_proj", name)
        return "source" if is_source else "target"
    if is_masked_lm:
        return "label"
    return "target" if "lm_head" in name else "row"


class _Peaks(NamedTuple):
    """Dense peak in TFLOP/s by precision, with fp32 accumulation. None if the device has no units for the precision."""

    bf16: float | None
    fp16: float
    tf32: float | None
    fp32: float


# Regular expression of the device name -> peaks in TFLOP/s. The complete name must match, because laptop editions and
# slices of a GPU have other peaks. Sources: NVIDIA's data sheets (figures "with sparsity" are halved); for GeForce and
# RTX cards, the appendices of the white papers of the Ampere, Ada and Blackwell architectures.
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
    """The peak of one device in TFLOP/s at the precision of the run; None if it is unknown.

    If `tracking.peak_tflops` is a number, this number is returned. If it is `measured`, the speed of a matrix product
    on the device is measured. If it is null, the peak that the manufacturer of a known GPU states is looked up.
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
    """Measures the best speed of square matrix products in TFLOP/s."""
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for the device, which computes asynchronously
        best = min(best, time.perf_counter() - start)
    return _MULTIPLY_ADD * size**3 / best / 1e12
