"""Attention maps and positions as pictures, and maps as a page for the browser. It never goes to the Hub."""

import base64
import json
import math
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel

from .attention_mapping import AttentionMaps
from .attention_probe import Head
from .embeddings import SinusoidalPositions
from .plot_style import PLOT_STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("attention_map.html")
MOST_PANELS = 24
"""Maps of a picture; the page has them all."""

MOST_POSITIONS = 1024
_COLUMNS = 4
_MOST_LABELS = 40  # tokens along an axis; the positions of more are numbered
_LONGEST_LABEL = 14  # characters
_LABEL_SIZE = 6.5  # points
_INCHES_PER_TOKEN = 0.115
_FIXED_SCALE = 65535  # weights of the page are whole numbers of 16 bits
_POSITION_NAMES = ("position", "wpe")


# The page


def page(maps: AttentionMaps) -> str:
    """One HTML file with everything in it."""
    # A `<` never stands in the data as such, so that no text can end the script element that holds it.
    data = json.dumps(_page_data(maps), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", data)


def _page_data(maps: AttentionMaps) -> dict[str, Any]:
    return {
        "model": maps.model,
        "measure": maps.measure,
        "loss": maps.loss,
        "notes": maps.notes,
        "tokens": maps.tokens,
        "first": strongest(maps)[0],
        "heads": [[*head, maps.loss_changes.get(head), _packed(weights)] for head, weights in maps.weights.items()],
    }


def _packed(weights: torch.Tensor) -> str:
    """Whole numbers of 16 bits, little-endian, deflated, in base 64."""
    numbers = (weights.double() * _FIXED_SCALE).round().to(torch.int32).numpy().astype("<u2")
    return base64.b64encode(zlib.compress(numbers.tobytes())).decode("ascii")


def strongest(maps: AttentionMaps) -> list[Head]:
    """The heads, those with the largest effects first; in their own order where there are none."""
    return sorted(maps.weights, key=lambda head: -abs(maps.loss_changes.get(head, 0.0)))


def signed(change: float) -> str:
    """A change of the loss to three places; one that rounds to nothing has no sign."""
    return f"{change:+.3f}" if abs(change) >= 5e-4 else "0.000"


# Pictures


def draw_maps(maps: AttentionMaps, path: str | Path) -> None:
    """A PNG with a panel for each head; of more than 24, those with the largest effects on the loss."""
    import matplotlib.style  # slow to import
    from matplotlib.figure import Figure

    drawn = set(strongest(maps)[:MOST_PANELS])
    heads = [head for head in maps.weights if head in drawn]
    num_columns = min(_COLUMNS, len(heads))
    num_rows = math.ceil(len(heads) / num_columns)
    width, height = _panel_size(maps, heads)
    with matplotlib.style.context(PLOT_STYLE):
        figure = Figure(figsize=(num_columns * width + 0.6, num_rows * height + 0.4))
        axes = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
        for panel, head in zip(axes, heads, strict=False):
            image = _draw_map(panel, maps, head)
        for panel in axes[len(heads) :]:
            panel.set_axis_off()
        figure.colorbar(
            image,
            ax=axes.tolist(),
            shrink=min(1.0, 3 / (num_rows * height)),
            label="weight (coloured by its square root)",
        )
        if len(heads) < len(maps.weights):
            order = "with the largest effects" if maps.loss_changes else "that come first"
            figure.suptitle(f"the {len(heads)} of {len(maps.weights)} heads {order}", x=0.01, ha="left")
        _save(figure, path)


def _panel_size(maps: AttentionMaps, heads: list[Head]) -> tuple[float, float]:
    """Inches of a panel with its labels."""
    axes = [maps.tokens[head.kind] for head in heads]
    sizes = []
    for number in (1, 0):  # columns, rows
        most = max(len(tokens[number]) for tokens in axes)
        across = max(len(_label(token)) for tokens in axes for token in tokens[1 - number])
        sizes.append(max(1.6, min(most, _MOST_LABELS) * _INCHES_PER_TOKEN) + 0.3 + 0.07 * across)
    return max(3.0, sizes[0]), sizes[1] + 0.3


def _draw_map(axes: "Axes", maps: AttentionMaps, head: Head) -> Any:
    from matplotlib.colors import PowerNorm

    rows, columns = maps.tokens[head.kind]
    image = axes.imshow(
        maps.weights[head].numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto", interpolation="nearest"
    )
    change = maps.loss_changes.get(head)
    kind = "" if len(maps.tokens) == 1 else f"{head.kind} "
    effect = "" if change is None else f": loss {signed(change)}"
    axes.set_title(f"{kind}layer {head.layer}, head {head.head}{effect}", fontsize=9)
    axes.grid(False)
    _label_axis(axes, "y", rows)
    _label_axis(axes, "x", columns)
    return image


def _label_axis(axes: "Axes", name: str, tokens: list[str]) -> None:
    """The tokens, or the numbers of their positions where they would meet."""
    from matplotlib.ticker import MaxNLocator

    axis = getattr(axes, f"{name}axis")
    if len(tokens) > _MOST_LABELS:
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.set_tick_params(labelsize=_LABEL_SIZE)
        return
    rotation = 90 if name == "x" else 0
    labels = [_label(token) for token in tokens]
    axis.set_ticks(range(len(tokens)), labels, fontsize=_LABEL_SIZE, rotation=rotation, parse_math=False)
    axis.set_tick_params(length=0)


def _label(token: str) -> str:
    return token if len(token) <= _LONGEST_LABEL else f"{token[: _LONGEST_LABEL - 1]}\u2026"


def _save(figure: "Figure", path: str | Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the page shows them
        figure.savefig(path, format="png")


# Positions


def position_tables(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The tables of positions (P, D) of a model by the names of their modules, each once; rows for padding left out."""
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
    """A PNG of each table of positions, and of how alike its positions are.

    Returns:
        Whether the model has such a table; without one there is no picture.
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
        _save(figure, path)
    return True


def _draw_positions(figure: "Figure", left: "Axes", right: "Axes", name: str, table: torch.Tensor) -> None:
    rows = table[:MOST_POSITIONS]
    cut = "" if len(rows) == len(table) else f" (the first {len(rows):,} of {len(table):,})"
    largest = rows.abs().flatten().kthvalue(max(1, rows.numel() * 99 // 100)).values.item()  # of 99 in 100
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
