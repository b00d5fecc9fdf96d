"""Finds the position tables of a model and draws them."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel

from vanilla_transformers.model.embeddings import SinusoidalPositions
from vanilla_transformers.plot_style import PLOT_STYLE, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POSITIONS = 1024  # maximum number of rows of a table that are drawn
_POSITION_NAMES = ("position", "wpe")


def position_tables(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The different position tables (P, D) of a model, by module name, without the rows before the first position."""
    found: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        table = _position_table(name, module)
        if table is not None and not any(torch.equal(table, other) for other in found.values()):
            found[name] = table
    return found


def _position_table(name: str, module: nn.Module) -> torch.Tensor | None:
    if isinstance(module, SinusoidalPositions):
        return module.table[module.offset :].detach().float().cpu()
    if not isinstance(module, nn.Embedding) or not any(part in name.rsplit(".", 1)[-1] for part in _POSITION_NAMES):
        return None
    first = getattr(module, "offset", 0 if module.padding_idx is None else module.padding_idx + 1)
    return module.weight[first:].detach().float().cpu()


def draw_positions(model: PreTrainedModel, path: str | Path) -> bool:
    """Writes a PNG of each position table and of the cosine similarity of its positions.

    Returns:
        Whether the model has a position table. Without one, no file is written.
    """
    tables = position_tables(model)
    if not tables:
        return False
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(PLOT_STYLE):
        figure = Figure(figsize=(8.4, 3.4 * len(tables)))
        axes = figure.subplots(len(tables), 2, squeeze=False)
        for (name, table), (left, right) in zip(tables.items(), axes, strict=True):
            _draw_positions(figure, left, right, name, table)
        save_png(figure, path)
    return True


def _draw_positions(figure: "Figure", left: "Axes", right: "Axes", name: str, table: torch.Tensor) -> None:
    rows = table[:MOST_POSITIONS]
    cut = "" if len(rows) == len(table) else f" (the first {len(rows):,} of {len(table):,})"
    largest = rows.abs().flatten().kthvalue(max(1, rows.numel() * 99 // 100)).values.item()  # 99th percentile
    directions = nn.functional.normalize(rows, dim=-1)
    panels = (
        (left, rows, largest or 1.0, name, "dimension"),
        (right, directions @ directions.T, 1.0, "cosine similarity of positions", "position"),
    )
    for axes, numbers, limit, title, label in panels:
        image = axes.imshow(numbers.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        axes.set(title=title, xlabel=label, ylabel=f"position{cut}")
        axes.grid(False)
        figure.colorbar(image, ax=axes)
