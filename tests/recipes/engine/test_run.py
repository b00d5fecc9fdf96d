"""What a whole run leaves for whoever watches it: records, curves, a tracker's run, results and a table."""

import io
import json
from contextlib import redirect_stdout

import accelerate.tracking
import pytest
from PIL import Image

from vanilla_recipes.errors import UserError
from vanilla_recipes.translation import main

TINY = [
    "translation/toy",
    "max_duration=6 steps",
    "evaluation.every=3 steps",
    "evaluation.max_rows=8",
    "checkpoint.every=null",
    "log_every=2 steps",
    "precision=fp32",
    "data.num_train_rows=300",
    "data.num_validation_rows=20",
    "data.num_test_rows=10",
    "tokenizer.vocab_size=500",
    "batch.tokens=300",
    "batch.micro_batches=2",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "tracking.peak_tflops=0.01",
    "tracking.trackers=[tensorboard]",
]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The folder of a run of six steps, and what it printed on stdout."""
    folder = tmp_path_factory.mktemp("watched") / "run"
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([*TINY, f"output_dir={folder}"]) == 0
    return folder, printed.getvalue()


def test_training_records_hold_every_figure(watched):
    records = [json.loads(line) for line in (watched[0] / "metrics.jsonl").read_text().splitlines()]
    training = [record for record in records if "loss" in record]
    assert [record["step"] for record in training] == [2, 3, 4, 6]
    for record in training:
        assert record["padded_tokens_per_second"] > record["tokens_per_second"] > record["target_tokens_per_second"] > 0
        assert record["padding"] == pytest.approx(1 - record["tokens_per_second"] / record["padded_tokens_per_second"])
        assert 0 < record["padding"] < 0.5
        assert 0 < record["mfu"] < 10
        assert {"learning_rate", "grad_norm", "epoch", "tokens", "elapsed_seconds"} <= record.keys()


def test_results_hold_the_figures_of_the_run(watched):
    results = json.loads((watched[0] / "results.json").read_text())
    run = results["run"]
    assert (run["steps"], results["validation"]["rows"], results["test"]["rows"]) == (6, 8, 10)
    assert run["tokens_per_second"] == pytest.approx(run["tokens"] / run["seconds"], rel=0.01)
    assert 0 < run["padding"] < 0.5
    assert str(watched[0]) not in json.dumps(results)


def test_results_certify_the_gradient(watched):
    found = json.loads((watched[0] / "results.json").read_text())["certificates"]
    assert found["resume"]["times"] == 0
    assert len(found["resume"]["fingerprint"]) == 64
    gradient = found["gradient"]
    assert gradient["parts"] == sorted({2, gradient["rows"]})
    assert 0 <= gradient["relative_difference"] < 1e-6


def test_the_run_ends_with_a_table(watched):
    folder, printed = watched
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert list(lines) == ["validation", "test", "training", "speed", "memory", "best", "beside"]
    assert "signature nrefs:1" in lines["test"]
    assert lines["training"].startswith("6 steps, ")
    assert lines["best"] == f"model  {folder / 'best'}"
    beside = lines["beside"].removeprefix("it").split(",")
    assert {"curves.png", "final", "metrics.jsonl", "results.json"} <= {name.strip() for name in beside}


def test_the_curves_are_there(watched):
    with Image.open(watched[0] / "curves.png") as image:
        assert image.size == (3 * 432, 3 * 300)


def test_tensorboard_has_all_of_it(watched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(watched[0] / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 3, 4, 6]
    assert [event.step for event in events.Scalars("validation_bleu")] == [3, 6]
    assert [event.step for event in events.Scalars("test_bleu")] == [6]


def test_a_missing_tracker_stops_the_run_before_it_reads_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: [])
    missing = tmp_path / "none.jsonl"
    with pytest.raises(UserError, match=r"tensorboard is not installed: pip install"):
        main([*TINY, f"data.path={missing}", f"output_dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()
