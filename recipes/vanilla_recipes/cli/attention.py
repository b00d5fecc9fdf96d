"""`vanilla attention`: writes attention maps of a text, and the effect of each head on the loss, to a folder."""

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.cli.models import load_for
from vanilla_recipes.data.readers import is_unicode
from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import complete_folder
from vanilla_transformers.inspection import passages as attention_passages
from vanilla_transformers.inspection.attention_maps import attention_maps
from vanilla_transformers.inspection.maps import AttentionMaps, signed, strongest
from vanilla_transformers.inspection.positions import draw_positions
from vanilla_transformers.inspection.probe import AttentionMapError

PAGE, PICTURE, POSITIONS = "attention.html", "attention.png", "positions.png"
LISTED = 8  # maximum number of heads in the printed table


def show_attention(arguments: argparse.Namespace) -> int:
    """Writes the attention maps, and prints the heads with the largest effects on the loss.

    Raises:
        UsageError: If a text is empty or not valid Unicode, or the folder --out exists and may not be replaced.
        UserError: If the model has no attention maps, or lacks the requested layers, heads or kinds of attention.
    """
    for what, text in (("TEXT", arguments.text), ("--target", arguments.target)):
        if text is not None and not text.strip():
            raise UsageError(f"{what} is empty: give at least one word")
        if text is not None and not is_unicode(text):
            raise UsageError(f"{what}, {text!r}: it is not UTF-8; convert it first, for instance with iconv")
    out = checked_output(arguments.out, arguments.overwrite)
    model, tokenizer = load_for("attention", arguments.model, arguments.device)
    with refusals(arguments.model):
        maps = attention_maps(
            model,
            tokenizer,
            arguments.text,
            arguments.target,
            layers=arguments.layers,
            heads=arguments.heads,
            kinds=arguments.kind,
            effects=not arguments.no_effects,
            progress=sys.stderr is not None and sys.stderr.isatty(),
        )
    with complete_folder(out) as folder:
        replace(maps, model=arguments.model).save_html(folder / PAGE)
        maps.save_png(folder / PICTURE)
        has_positions = draw_positions(model, folder / POSITIONS)
    report(maps)
    written = [PAGE, PICTURE, *([POSITIONS] if has_positions else [])]
    print(f"wrote  {', '.join(str(Path(arguments.out) / name) for name in written)}")
    return 0


def checked_output(name: str, overwrite: bool) -> Path:
    """Returns the folder to write to.

    Raises:
        UsageError: If the folder exists, and `overwrite` is false or it has other files than attention maps.
    """
    out = Path(name).resolve()
    if out.exists() and not overwrite:
        raise UsageError(f"--out {name}: exists already; name another folder or add --overwrite")
    if out.exists() and (not out.is_dir() or {file.name for file in out.iterdir()} - {PAGE, PICTURE, POSITIONS}):
        raise UsageError(
            f"--out {name}: has other files than attention maps, so --overwrite does not replace it; name another "
            "folder"
        )
    return out


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """Turns an `AttentionMapError` into a `UserError`: one line that begins with the model's `name`.

    It also turns off the log message that a text was truncated, because `report` prints the same message.
    """
    logger = logging.getLogger(attention_passages.__name__)
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    except AttentionMapError as error:
        raise UserError(f"{name}: {error}") from error
    finally:
        logger.disabled = was_disabled


def report(maps: AttentionMaps) -> None:
    """Prints the notes, the loss, and the heads with the largest effects on the loss."""
    for note in maps.notes:
        print(f"note   {note}")
    if maps.loss is None:
        print(f"loss   {maps.measure.removeprefix('no loss: ')}")
        return
    print(f"loss   {maps.loss:.3f}, {maps.measure}")
    for head in strongest(maps)[:LISTED]:
        name = f"{head.kind} layer {head.layer}, head {head.head}"
        print(f"{signed(maps.loss_changes[head]):>7} without {name}")
