"""The matplotlib style of all figures of this project: `with matplotlib.style.context(PLOT_STYLE):`."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT_STYLE = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.02,
    "axes.formatter.useoffset": False,
    # Paul Tol's bright scheme: color-blind readers can distinguish its colors.
    "axes.prop_cycle": "cycler('color', ['#4477AA', '#EE6677', '#228833', '#CCBB44', '#66CCEE', '#AA3377'])",
    "grid.color": "#E6E6E6",
    "lines.linewidth": 1.4,
    "legend.frameon": False,
}


def save_png(figure: "Figure", path: str | Path) -> None:
    """Saves a figure as PNG. Suppresses matplotlib's warning for each character that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, format="png")
