"""Scoring counts each row once, and notices when it did not."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from vanilla_recipes.engine import evaluation
from vanilla_recipes.engine.task import Examples

LENGTHS = np.array([5, 1, 9, 3, 7, 2, 8])


def on_processes(monkeypatch, num_processes: int, predict=lambda model, rows: rows.tolist()) -> list[dict]:
    """The scores on each of several processes, which here run one after another."""
    examples = Examples(LENGTHS, predict, lambda records: {"records": records})
    found: list[list] = []
    monkeypatch.setattr(evaluation, "gather_object", lambda items: found.append(items) or items)
    for rank in range(num_processes):
        shares = SimpleNamespace(num_processes=num_processes, process_index=rank)
        with pytest.raises(RuntimeError) if num_processes > 1 else nullcontext():
            evaluation.evaluate(None, examples, 10, shares)
    together = [item for items in found for item in items]
    monkeypatch.setattr(evaluation, "gather_object", lambda items: together)
    return [
        evaluation.evaluate(None, examples, 10, SimpleNamespace(num_processes=num_processes, process_index=rank))
        for rank in range(num_processes)
    ]


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_each_row_is_scored_once_and_in_order(monkeypatch, num_processes):
    expected = {"rows": len(LENGTHS), "records": list(range(len(LENGTHS)))}
    assert on_processes(monkeypatch, num_processes) == [expected] * num_processes


def test_processes_predict_equally_often(monkeypatch):
    calls: list[int] = []
    on_processes(monkeypatch, 2, lambda model, rows: calls.append(1) or rows.tolist())
    assert len(calls) % 4 == 0


def test_a_lost_row_is_noticed():
    examples = Examples(LENGTHS, lambda model, rows: rows.tolist()[:-1], lambda records: {})
    with pytest.raises(ValueError, match="zip"):
        evaluation.evaluate(None, examples, 10, SimpleNamespace(num_processes=1, process_index=0))
