"""Attention maps, and their display as an HTML page or a PNG picture."""

import base64
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vanilla_transformers.inspection.probe import Head
from vanilla_transformers.plot_style import PLOT_STYLE, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = Path(__file__).with_name("attention_map.html")
MOST_PANELS = 24
"""The largest number of maps in a PNG picture. The HTML page shows all maps."""

_COLUMNS = 4
_MOST_LABELS = 40  # maximum number of token labels of an axis; a longer axis shows positions instead
_LONGEST_LABEL = 14  # maximum length of a token label in characters
_LABEL_SIZE = 6.5  # font size of token labels in points
_INCHES_PER_TOKEN = 0.115
_FIXED_SCALE = 65535  # the page contains the weights as 16-bit integers, with 65535 for 1.0


@dataclass(frozen=True)
class AttentionMaps:
    """Attention maps of a text.

    Attributes:
        model: the name of the model or of its class.
        weights: the attention weights (T, S) of each head, on the CPU. A row is a query token, a column a key token.
            `maps.weights["cross", 2, 3]` is the map of head 3 of cross attention in layer 2.
        tokens: the displayed tokens of the rows and of the columns, for each kind of attention.
        loss: the loss of the model with all heads in nats, or `None` if it was not measured.
        loss_changes: the increase of the loss if only this head is switched off; empty if no loss was measured.
        measure: the definition of the loss, or the reason why no loss was measured.
        notes: further facts for the reader, for example that a text was cut.
    """

    model: str
    weights: dict[Head, torch.Tensor]
    tokens: dict[str, tuple[list[str], list[str]]]
    loss: float | None
    loss_changes: dict[Head, float]
    measure: str
    notes: tuple[str, ...] = ()

    def save_html(self, path: str | Path) -> None:
        """Writes an HTML page, one file without external resources."""
        Path(path).write_text(page(self), encoding="utf-8")

    def save_png(self, path: str | Path) -> None:
        """Writes a PNG picture of the maps, at most the `MOST_PANELS` maps with the largest effects on the loss."""
        draw_maps(self, path)


# The page


def page(maps: AttentionMaps) -> str:
    """The HTML page of the maps, without external resources."""
    # The data must not contain `<`: a text with `</script>` would end the script element.
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
    """The weights as little-endian 16-bit integers, compressed with zlib, in base 64."""
    numbers = (weights.double() * _FIXED_SCALE).round().to(torch.int32).numpy().astype("<u2")
    return base64.b64encode(zlib.compress(numbers.tobytes())).decode("ascii")


def strongest(maps: AttentionMaps) -> list[Head]:
    """The heads by descending size of their effects, or in their original order if no effects were measured."""
    return sorted(maps.weights, key=lambda head: -abs(maps.loss_changes.get(head, 0.0)))


def signed(change: float) -> str:
    """A change of the loss with a sign and three decimals; a change that rounds to zero has no sign."""
    return f"{change:+.3f}" if abs(change) >= 5e-4 else "0.000"


# Pictures


def draw_maps(maps: AttentionMaps, path: str | Path) -> None:
    """Writes a PNG with a panel for each head, at most the `MOST_PANELS` heads with the largest effects on the loss."""
    import matplotlib.style  # imported here, because the import is slow
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
        save_png(figure, path)


def _panel_size(maps: AttentionMaps, heads: list[Head]) -> tuple[float, float]:
    """The width and the height of a panel with its labels, in inches."""
    axes = [maps.tokens[head.kind] for head in heads]
    sizes = []
    for number in (1, 0):  # first the tokens of the columns, then the tokens of the rows
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
    """Labels an axis with the tokens, or with position numbers if the tokens would overlap."""
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
