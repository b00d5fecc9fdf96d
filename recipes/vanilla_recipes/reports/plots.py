"""Draws the curves of a run from its records, without a display."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vanilla_recipes.folders import WRITING
from vanilla_transformers.plot_style import PLOT_STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_PANEL_SIZE = (3.6, 2.5)  # width and height in inches
_NUM_BINS = 400  # maximum number of points of a curve
_FEWEST_WITHOUT_MARKS = 30  # a curve with fewer points has a marker at each point
VALIDATION = "validation_"
"""Prefix of the names of validation scores in the records."""

_PANELS = {
    "loss": "training loss",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "real tokens per second",
}


@dataclass(frozen=True)
class Curve:
    """A metric over the steps, binned: mean step and mean, minimum and maximum value of each bin; shapes (points,)."""

    steps: NDArray
    means: NDArray
    lows: NDArray
    highs: NDArray


def draw_curves(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes a PNG with one panel for each training metric and each validation score, over the steps.

    Args:
        records: the records of `metrics.jsonl`, in order.
        path: the PNG file, which is replaced atomically.
    """
    import matplotlib.style  # imported here, because the import takes almost a second
    from matplotlib.figure import Figure

    panels = _panels(records)
    if not panels:
        return
    num_columns = min(_COLUMNS, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    with matplotlib.style.context(PLOT_STYLE):
        figure = Figure(figsize=(num_columns * _PANEL_SIZE[0], num_rows * _PANEL_SIZE[1]))
        axes = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
        for panel, (title, curves) in zip(axes, panels.items(), strict=False):
            _draw(panel, title, curves, records[-1]["step"])
        for panel in axes[len(panels) :]:
            panel.set_axis_off()
        for panel in axes[max(0, len(panels) - num_columns) : len(panels)]:
            panel.set_xlabel("step")
        aside = path.with_name(f"{WRITING}{path.name}")
        try:
            figure.savefig(aside, format="png")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def thin_out(steps: Sequence[float], values: Sequence[float], num_bins: int = _NUM_BINS) -> Curve:
    """Bins a curve into at most `num_bins` points. The bins hold equal numbers of values, except for rounding."""
    bounds = np.linspace(0, len(steps), min(num_bins, len(steps)) + 1).astype(int)[:-1]
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    sizes = np.diff(np.append(bounds, len(x)))
    means = [np.add.reduceat(numbers, bounds) / sizes for numbers in (x, y)]
    return Curve(means[0], means[1], np.minimum.reduceat(y, bounds), np.maximum.reduceat(y, bounds))


def _panels(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Curve]]:
    """The curves of each panel, by title. The validation loss is drawn in the panel of the training loss."""
    scores = dict.fromkeys(key for record in records for key in record if key.startswith(VALIDATION))
    panels: dict[str, dict[str, Curve]] = {}
    for key in [*_PANELS, *scores]:
        points = [(record["step"], record[key]) for record in records if _is_number(record.get(key))]
        if not points or key == f"{VALIDATION}rows":  # the number of validation rows is constant
            continue
        curve = thin_out([step for step, _ in points], [value for _, value in points])
        if key == f"{VALIDATION}loss" and "training loss" in panels:
            panels["loss"] = {"training": panels.pop("training loss")["training loss"], "validation": curve}
        else:
            title = _PANELS.get(key) or f"validation {key.removeprefix(VALIDATION)}".replace("_", " ")
            panels[title] = {title: curve}
    return dict(sorted(panels.items(), key=lambda item: "loss" not in item[0]))  # panels of losses come first


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _draw(axes: "Axes", title: str, curves: dict[str, Curve], last_step: int) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set(title=title, xlim=(0, last_step * 1.02))
    for label, curve in curves.items():
        marker = "o" if len(curve.steps) < _FEWEST_WITHOUT_MARKS else None
        axes.plot(curve.steps, curve.means, marker=marker, markersize=3, label=label)
        if (curve.highs > curve.lows).any():
            axes.fill_between(curve.steps, curve.lows, curve.highs, alpha=0.2, linewidth=0)
    if len(curves) > 1:
        axes.legend()
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if title == _PANELS["tokens_per_second"]:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
