"""Curves: what is thinned out, and pictures that show something."""

import numpy as np
import pytest
from PIL import Image

from vanilla_recipes.reports.plots import draw_curves, thin_out


def records(num_steps: int, score_every: int) -> list[dict]:
    found = []
    for step in range(1, num_steps + 1):
        found.append({"step": step, "loss": 5 / step, "learning_rate": 1e-3, "tokens_per_second": 9000.0 + step % 7})
        if step % score_every == 0:
            scores = {"rows": 10, "loss": 6 / step, "bleu": 40.0, "signature": "nrefs:1"}
            found.append({"step": step} | {f"validation_{name}": value for name, value in scores.items()})
    return found


def ink(path) -> float:
    """The share of the picture that is not white."""
    with Image.open(path) as image:
        return float((np.asarray(image.convert("L")) < 250).mean())


def test_short_curves_keep_every_point():
    curve = thin_out([1, 2, 4], [3.0, 5.0, 1.0], num_bins=10)
    assert curve.steps.tolist() == [1, 2, 4]
    assert curve.means.tolist() == curve.lows.tolist() == curve.highs.tolist() == [3, 5, 1]


def test_long_curves_become_bins_of_equal_size():
    values = np.random.default_rng(0).normal(size=1003)
    curve = thin_out(range(1003), values, num_bins=10)
    bins = np.split(values, [int(1003 * part / 10) for part in range(1, 10)])
    assert curve.means == pytest.approx([part.mean() for part in bins])
    assert curve.lows == pytest.approx([part.min() for part in bins])
    assert curve.highs == pytest.approx([part.max() for part in bins])
    assert curve.steps[0] == pytest.approx(np.arange(100).mean())


@pytest.mark.parametrize(("num_steps", "score_every"), [(1, 1), (2, 1), (100_000, 20_000)])
def test_picture_is_readable_at_any_length(tmp_path, num_steps, score_every):
    draw_curves(records(num_steps, score_every), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        # Loss of training and validation, rate, speed, BLEU: four panels in two rows of three.
        assert image.format == "PNG"
        assert image.size == (3 * 432, 2 * 300)
    assert 0.01 < ink(tmp_path / "curves.png") < 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_curves_change_the_picture(tmp_path):
    draw_curves(records(3, 1), tmp_path / "few.png")
    rising = [record | {"loss": float(record["step"])} for record in records(3, 1) if "loss" in record]
    draw_curves(rising, tmp_path / "rising.png")
    assert (tmp_path / "few.png").read_bytes() != (tmp_path / "rising.png").read_bytes()


def test_nothing_to_draw_leaves_no_picture(tmp_path):
    draw_curves([], tmp_path / "curves.png")
    draw_curves([{"step": 1, "loss": float("nan")}], tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []
