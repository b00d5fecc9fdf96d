"""The look of every figure of this project: `with matplotlib.style.context(PLOT_STYLE):`. It never goes to the Hub."""

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
    # Paul Tol's bright scheme, whose colours colour-blind readers can tell apart.
    "axes.prop_cycle": "cycler('color', ['#4477AA', '#EE6677', '#228833', '#CCBB44', '#66CCEE', '#AA3377'])",
    "grid.color": "#E6E6E6",
    "lines.linewidth": 1.4,
    "legend.frameon": False,
}
