"""Summarizes a finished run: the figures in `results.json` and the table that is printed at the end."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from vanilla_recipes.engine.task import Scores
from vanilla_recipes.reports.plots import VALIDATION
from vanilla_recipes.settings.train_state import TrainState

_PACKAGES = ("vanilla_transformers", "transformers", "accelerate")


def run_figures(state: TrainState, records: Sequence[Mapping[str, Any]], accelerator: Accelerator) -> dict[str, Any]:
    """Steps, tokens, time, speed, memory, hardware and versions of a run. No host, user or path is named.

    Args:
        state: the counters at the end of the run.
        records: the records of `metrics.jsonl`. For a resumed run they also cover the time before the resume.
        accelerator: the processes and devices.
    """
    seconds = max(state.elapsed_seconds, 1e-9)
    figures = {
        "steps": state.global_step,
        "epochs": round(state.position("epochs"), 4),
        "tokens": state.tokens,
        "seconds": round(state.elapsed_seconds, 3),
        "tokens_per_second": round(state.tokens / seconds, 1),
        "padding": round(_padding(records), 4),
    }
    utilization = _mean_over_time(records, "mfu")
    if utilization is not None:
        figures["mfu"] = round(utilization, 4)
    peak_memory = _peak_memory_gb(accelerator.device)
    if peak_memory is not None:
        figures["peak_memory_gb"] = round(peak_memory, 3)
    return figures | {
        "machine": {"device": _device_name(accelerator.device), "processes": accelerator.num_processes},
        # `torch.__version__` includes the build, such as 2.15.0+cu132; the package metadata of some builds does not.
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)}
        | {name: version(name) for name in _PACKAGES},
    }


def best_scores(state: TrainState, records: Sequence[Mapping[str, Any]]) -> Scores:
    """The step of the best model, and its scores on the validation rows."""
    scored = [record for record in records if record["step"] == state.best_step]
    scores = {key: value for record in scored for key, value in record.items() if key.startswith(VALIDATION)}
    return {"step": state.best_step} | {key.removeprefix(VALIDATION): value for key, value in scores.items()}


def summary_table(scores: Mapping[str, Scores], run: Mapping[str, Any], folder: Path) -> str:
    """The summary of a run in a few lines.

    Args:
        scores: the scores of the best model, by split (validation, test).
        run: the result of `run_figures`.
        folder: the run folder, whose files are listed.
    """
    speed = f"{run['tokens_per_second']:,.0f} real tokens/s, {run['padding']:.1%} padding"
    if "mfu" in run:
        speed += f", {run['mfu']:.1%} of the device's peak"
    lines = {
        **{name: _scores_text(found) for name, found in scores.items()},
        "training": f"{run['steps']:,} steps, {run['epochs']:,.1f} epochs, {run['tokens']:,} tokens, "
        f"{tqdm.format_interval(run['seconds'])} on {run['machine']['processes']} x {run['machine']['device']}",
        "speed": speed,
        "memory": f"{run['peak_memory_gb']:.2f} GB at most" if "peak_memory_gb" in run else "",
        "best model": str(folder / "best"),
        "beside it": ", ".join(sorted(path.name for path in folder.iterdir() if path.name != "best")),
    }
    return "\n".join(f"{name:<12}{text}" for name, text in lines.items() if text)


def _scores_text(scores: Scores) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in scores.items()
    )


def _padding(records: Sequence[Mapping[str, Any]]) -> float:
    """The fraction of padding in all batches, computed from the fraction that each record reports for its steps."""
    tokens, num_padded = 0, 0.0
    for record in records:
        if "padding" in record:
            num_padded += (record["tokens"] - tokens) / (1 - record["padding"])
            tokens = record["tokens"]
    return 1 - tokens / num_padded if num_padded else 0.0


def _mean_over_time(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    total, seconds, before = 0.0, 0.0, 0.0
    for record in records:
        if name in record:
            total += record[name] * (record["elapsed_seconds"] - before)
            seconds += record["elapsed_seconds"] - before
        before = record["elapsed_seconds"]
    return total / seconds if seconds else None


def _peak_memory_gb(device: torch.device) -> float | None:
    """Peak memory of the main process in GB: of its GPU, or of its CPU memory if it trains on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()} ({os.cpu_count()} cores, {torch.get_num_threads()} threads)"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
