"""What a run writes and tells while it trains: records, rates, curves, and the table at its end."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vanilla_recipes.engine.figures import Throughput
from vanilla_recipes.engine.summary import best_scores, run_figures, summary_table
from vanilla_recipes.errors import UserError
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.reports import metrics as tracking
from vanilla_recipes.reports.metrics import MetricsLog
from vanilla_recipes.reports.progress import ProgressLine
from vanilla_recipes.settings.config_files import load_experiment
from vanilla_recipes.settings.experiment import Experiment, TrackingConfig
from vanilla_recipes.settings.train_state import TrainState
from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration


@pytest.fixture
def accelerator():
    return build_accelerator(Experiment())


@dataclasses.dataclass
class Work:
    """As much of a task as a measurement of speed looks at."""

    model: torch.nn.Module


def tiny_model() -> VanillaSeq2SeqForConditionalGeneration:
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    return VanillaSeq2SeqForConditionalGeneration(VanillaSeq2SeqConfig(encoder_layers=1, decoder_layers=1, **sizes))


def batch(rows: int, source: int, target: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.ones(rows, source), "labels": torch.ones(rows, target)}


# Records


def test_records_are_one_line_each_and_a_resume_drops_the_later_ones(tmp_path, accelerator):
    log = MetricsLog(tmp_path / "metrics.jsonl", accelerator)
    for step in (1, 2, 3):
        log.write(TrainState(global_step=step, tokens=10 * step, elapsed_seconds=step / 2), {"loss": 1.0 / step})
    with open(log.path, "a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')  # a process was killed here
    log.rewind(TrainState(global_step=2))
    assert log.read() == [
        {"step": 1, "epoch": 0.0, "tokens": 10, "elapsed_seconds": 0.5, "loss": 1.0},
        {"step": 2, "epoch": 0.0, "tokens": 20, "elapsed_seconds": 1.0, "loss": 0.5},
    ]


@pytest.mark.parametrize(
    ("known", "kept"), [({}, 0), ({"scored_step": 2}, 1), ({"averaged_step": 2, "scored_step": 2}, 2)]
)
def test_scores_that_came_after_the_checkpoint_of_their_step_go(tmp_path, accelerator, known, kept):
    log = MetricsLog(tmp_path / "metrics.jsonl", accelerator)
    log.write(TrainState(global_step=1), {"validation_rows": 4})
    for figures in ({"loss": 1.0}, {"validation_rows": 4}, {"validation_rows": 5}):
        log.write(TrainState(global_step=2), figures)
    log.rewind(TrainState(global_step=2, **known))
    assert [record["step"] for record in log.read()] == [1, 2] + kept * [2]
    log.rewind(None)
    assert log.read() == []


def test_curves_follow_the_records(tmp_path, accelerator, monkeypatch):
    drawn = []
    monkeypatch.setattr(tracking, "draw_curves", lambda records, path: drawn.append((len(records), path.name)))
    log = MetricsLog(tmp_path / "metrics.jsonl", accelerator)
    log.draw()
    log.write(TrainState(global_step=1), {"loss": 1.0})
    log.draw()
    log.draw()
    assert drawn == [(1, "curves.png")]


def test_curves_are_a_picture(tmp_path, accelerator):
    log = MetricsLog(tmp_path / "metrics.jsonl", accelerator)
    log.write(TrainState(global_step=1), {"loss": 1.0})
    log.draw()
    with Image.open(tmp_path / "curves.png") as image:
        assert len(np.unique(np.asarray(image))) > 2


def test_curves_that_cannot_be_drawn_do_not_end_a_run(tmp_path, accelerator, monkeypatch, caplog):
    def fail(records, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracking, "draw_curves", fail)
    log = MetricsLog(tmp_path / "metrics.jsonl", accelerator)
    log.write(TrainState(global_step=1), {"loss": 1.0})
    with caplog.at_level(logging.WARNING):
        log.draw()
    assert "curves.png: the curves cannot be drawn: [Errno 28] No space left on device" in caplog.text


# Rates


def throughput(accelerator, tflops: float | None = None) -> Throughput:
    experiment = Experiment(tracking=TrackingConfig(peak_tflops=tflops))
    return Throughput(Work(tiny_model()), experiment, accelerator, TrainState(tokens=100, elapsed_seconds=10.0))


def test_rates_count_what_passed_since_the_last_reading(accelerator):
    rates = throughput(accelerator)
    lengths = np.array([[4, 3], [2, 1]])
    rates.add([batch(1, 4, 3), batch(1, 3, 2)], lengths, num_targets=4.0)
    rates.add([batch(2, 4, 3)], lengths, num_targets=4.0)
    figures = rates.read(TrainState(tokens=120, elapsed_seconds=12.0))
    assert figures == {
        "tokens_per_second": 10.0,
        "padded_tokens_per_second": (4 + 3 + 3 + 2 + 8 + 6) / 2,
        "target_tokens_per_second": 4.0,
        "padding": pytest.approx(1 - 20 / 26),
    }
    rates.add([batch(2, 4, 3)], lengths, num_targets=4.0)
    figures = rates.read(TrainState(tokens=130, elapsed_seconds=12.5))
    assert (figures["tokens_per_second"], figures["padded_tokens_per_second"]) == (20.0, 28.0)


def test_utilization_is_a_share_of_the_peak(accelerator):
    rates = throughput(accelerator, tflops=1e-6)
    rates.add([batch(1, 4, 3)], np.array([[4, 3]]), num_targets=3)
    # By hand: D = 16, F = 32, V = 20. The encoder has 4 D^2 + 2 D F weights, the decoder 8 D^2 + 2 D F, of which the
    # 2 D^2 of the keys and values of cross attention see source tokens; 12 D (4^2 + 3^2 + 4 x 3) is attention.
    encoder, decoder = 4 * 256 + 2 * 512, 6 * 256 + 2 * 512
    flops = 6 * (4 * (encoder + 2 * 256) + 3 * (decoder + 16 * 20)) + 12 * 16 * (16 + 9 + 12)
    figures = rates.read(TrainState(tokens=107, elapsed_seconds=12.0))
    assert figures["mfu"] == pytest.approx(flops / 2 / 1e6)


def test_progress_shows_the_utilization_where_it_is_known(capsys):
    line = ProgressLine(enabled=True)
    figures = {"loss": 2.0, "learning_rate": 1e-3, "tokens_per_second": 12345.6}
    state = TrainState(global_step=7, elapsed_seconds=30.0)
    line.update(1.0, state, figures)
    line.update(1.0, state, figures | {"mfu": 0.41234})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "100% step 7 loss 2.000 lr 1.00e-03 12,346 tokens/s 00:00 left"
    assert second == "100% step 7 loss 2.000 lr 1.00e-03 12,346 tokens/s MFU 41.2% 00:00 left"


# The end


RECORDS = [
    {"step": 1, "tokens": 90, "elapsed_seconds": 1.0, "padding": 0.1, "mfu": 0.5},
    {"step": 1, "tokens": 90, "elapsed_seconds": 1.0, "validation_bleu": 3.0, "validation_signature": "nrefs:1"},
    {"step": 2, "tokens": 150, "elapsed_seconds": 4.0, "padding": 0.4, "mfu": 0.1},
    {"step": 2, "tokens": 150, "elapsed_seconds": 4.0, "validation_bleu": 2.0},
]
STATE = TrainState(global_step=2, epoch=1, tokens=150, elapsed_seconds=4.0, best_score=3.0, best_step=1)


def test_figures_of_a_run(accelerator):
    figures = run_figures(STATE, RECORDS, accelerator)
    assert (figures["steps"], figures["epochs"], figures["tokens"], figures["seconds"]) == (2, 1.0, 150, 4.0)
    assert figures["tokens_per_second"] == 37.5
    assert figures["padding"] == 0.25  # 150 of 100 + 100 places
    assert figures["mfu"] == 0.2  # one second at 0.5 and three at 0.1
    assert 0.01 < figures["peak_memory_gb"] < 1000
    assert figures["versions"]["torch"] == torch.__version__
    assert figures["machine"]["processes"] == 1


def test_figures_name_no_host_user_or_path(accelerator):
    figures = run_figures(STATE, RECORDS, accelerator)
    assert set(figures["machine"]) == {"device", "processes"}
    assert set(figures["versions"]) == {"python", "vanilla_transformers", "torch", "transformers", "accelerate"}
    assert str(Path.home()) not in json.dumps(figures)


def test_scores_of_the_best_model():
    assert best_scores(STATE, RECORDS) == {"step": 1, "bleu": 3.0, "signature": "nrefs:1"}


def test_table_at_the_end(tmp_path, accelerator):
    for name in ("best", "final"):
        (tmp_path / name).mkdir()
    (tmp_path / "curves.png").touch()
    figures = run_figures(STATE, RECORDS, accelerator) | {
        "peak_memory_gb": 1.5,
        "machine": {"device": "NVIDIA L4", "processes": 2},
    }
    scores = {"validation": best_scores(STATE, RECORDS), "test": {"rows": 10, "bleu": 35.26321}}
    assert summary_table(scores, figures, tmp_path).splitlines() == [
        "validation  step 1, bleu 3, signature nrefs:1",
        "test        rows 10, bleu 35.26",
        "training    2 steps, 1.0 epochs, 150 tokens, 00:04 on 2 x NVIDIA L4",
        "speed       38 real tokens/s, 25.0% padding, 20.0% of the device's peak",
        "memory      1.50 GB at most",
        f"best model  {tmp_path / 'best'}",
        "beside it   curves.png, final",
    ]


# Its settings


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("tracking.trackers=[tensorbord]", "may hold tensorboard, trackio and wandb"),
        ("tracking.trackers=tensorboard", "must be a list"),
        ("tracking.trackers=[wandb,wandb]", "must name each tracker once"),
        ("tracking.project=", "must not be empty"),
        ("tracking.peak_tflops=0", "must be greater than 0, or null, or measured"),
        ("tracking.peak_tflops=fast", "must be a finite number or one of measured or null"),
        ("tracking.tracker=[wandb]", "did you mean tracking.trackers?"),
    ],
)
def test_wrong_settings(tmp_path, override, text):
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=text.replace("?", r"\?")):
        load_experiment(Experiment, str(tmp_path / "mine.yaml"), [override])


def test_settings_of_the_command_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("tracking:\n  run_name: null\n")
    overrides = ["tracking.trackers=[tensorboard, wandb]", "tracking.peak_tflops=measured", "tracking.run_name=one"]
    found = load_experiment(Experiment, str(tmp_path / "mine.yaml"), overrides).tracking
    assert found == TrackingConfig(["tensorboard", "wandb"], run_name="one", peak_tflops="measured")
