"""`vanilla import` and `vanilla export`: convert a model, check the result, and keep it only if the checks pass."""

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import complete_folder
from vanilla_recipes.models.model_folder import load_saved
from vanilla_recipes.publishing.stock_copy import save, tokenizer_checks, write_stock
from vanilla_transformers import VanillaConfig
from vanilla_transformers.interop.checks import Check, InteropError, listed_checks
from vanilla_transformers.interop.comparison import SENTENCES, compare, there_and_back
from vanilla_transformers.interop.conversion import (
    architecture_of,
    class_for_head,
    from_stock,
    our_class,
    our_head,
)
from vanilla_transformers.interop.conversion import load_stock as load_stock_class


def import_model(arguments: argparse.Namespace) -> int:
    """Writes a model of this package with the weights of one of transformers' own models.

    Raises:
        UserError: If the model cannot be loaded or converted, a check fails, or the folder cannot be written.
    """
    out = checked_output(arguments.out, arguments.overwrite, arguments.model)
    started = time.monotonic()
    stock, tokenizer = load_stock(arguments.model, arguments.head)
    with refusals(arguments.model):
        model = from_stock(stock)
    architecture = architecture_of(stock.config.model_type)
    head = our_head(architecture, model)
    for note in architecture.notes(stock.config):
        print(f"note   {note}")
    with complete_folder(out) as folder:
        save(folder, model, tokenizer)
        written = architecture.heads[head].ours.from_pretrained(folder, dtype=torch.float32).eval()
        if stock.dtype != torch.float32:  # float() would keep the rounding of computed position tables
            stock = load_stock_class(type(stock), arguments.model, dtype=torch.float32)[0].eval()
        checks = [
            there_and_back(architecture, written, stock, head),
            *tokenizer_checks(tokenizer, folder),
            *compare(stock, written, tokenizer),
        ]
        report(checks, folder, started, out)
    return 0


def export_model(arguments: argparse.Namespace) -> int:
    """Converts a model of this package to one of transformers' own models, or to the format of another library.

    Raises:
        UserError: If the model cannot be loaded or converted, a check fails, or the folder cannot be written.
    """
    out = checked_output(arguments.out, arguments.overwrite, arguments.model)
    target = arguments.to
    if arguments.quantization is not None and target != "ctranslate2":
        raise UserError(f"--quantization {arguments.quantization}: it is for --to ctranslate2, not for {target}")
    started = time.monotonic()
    model, tokenizer = load_ours(arguments.model)
    with complete_folder(out) as folder, refusals(arguments.model):
        if target == "ctranslate2":
            checks = write_ctranslate2(model, tokenizer, folder, arguments.quantization or "float32")
        elif target == "onnx":
            checks = write_onnx(model, tokenizer, folder)
        else:
            _, checks = write_stock(model, tokenizer, folder, target)
        report(checks, folder, started, out)
    return 0


def write_ctranslate2(model: PreTrainedModel, tokenizer: Any, folder: Path, quantization: str) -> list[Check]:
    """Writes a folder for `ctranslate2.Translator` or `Generator`, and returns its checks."""
    from vanilla_transformers.interop import ctranslate2

    require_tokenizer(tokenizer, "CTranslate2 stores the vocabulary")
    ctranslate2.write(model, tokenizer, folder, quantization)
    return ctranslate2.check(model, tokenizer, folder, list(SENTENCES))


def write_onnx(model: PreTrainedModel, tokenizer: Any, folder: Path) -> list[Check]:
    """Writes a folder with ONNX graphs for onnxruntime and Optimum, and returns its checks."""
    from vanilla_transformers.interop import onnx

    require_tokenizer(tokenizer, "the check of the graphs needs encoded sentences")
    onnx.write(model, folder)
    tokenizer.save_pretrained(folder)
    return onnx.check(model, tokenizer, folder, list(SENTENCES))


class ByArchitecture:
    """Loads a model with a class of transformers, and records the saved weights that this class does not have.

    A bare encoder may have been saved without a pooler.

    Attributes:
        stock_class: the class of transformers.
        head: value of --head; None if --head is not given.
        left_out: names of the saved weights that the class does not have.
    """

    def __init__(self, stock_class: type[PreTrainedModel], head: str | None) -> None:
        self.stock_class = stock_class
        self.head = head
        self.left_out: list[str] = []

    def from_pretrained(self, name: str, *, output_loading_info: bool, **kwargs: Any) -> Any:
        model, report = load_stock_class(self.stock_class, name, **kwargs)
        self.left_out = sorted(report["unexpected_keys"])
        if self.head is not None and report["missing_keys"]:
            raise InteropError(
                f"--head {self.head}: it was saved without {listed(report['missing_keys'])}; leave --head out to "
                "import it as saved, or use --head base"
            )
        return model, report


def load_stock(name: str, head: str | None) -> tuple[PreTrainedModel, Any]:
    """Loads one of transformers' own models in evaluation mode, and its tokenizer (None if it has no tokenizer).

    Raises:
        UserError: If the model does not exist, is damaged, or cannot be converted.
    """

    loader: Any = None

    def check_config(config: PreTrainedConfig) -> ByArchitecture:
        nonlocal loader
        if isinstance(config, VanillaConfig):
            raise UserError(f"{name}: this is a {config.model_type} already; `vanilla export` is the other way")
        with refusals(name):
            loader = ByArchitecture(class_for_head(config, head), head)
        return loader

    quiet()
    model, tokenizer = load_saved(name, None, check_config, needs_tokenizer=False, dtype="auto")
    if loader.left_out:
        print(f"note   a {type(model).__name__} does not have {listed(loader.left_out)}: left out")
    return model.eval(), tokenizer


def load_ours(name: str) -> tuple[PreTrainedModel, Any]:
    """Loads a model of this package in evaluation mode, and its tokenizer (None if it has no tokenizer).

    Raises:
        UserError: If the model does not exist, is damaged, or is not a model of this package.
    """

    def check_config(config: PreTrainedConfig) -> type[PreTrainedModel]:
        if not isinstance(config, VanillaConfig):
            raise UserError(
                f"{name}: this is a {config.model_type}; export takes models of this package: run `vanilla import "
                f"{name} FOLDER` first"
            )
        with refusals(name):
            return our_class(config)

    quiet()
    model, tokenizer = load_saved(name, None, check_config, needs_tokenizer=False, dtype="auto")
    return model.eval(), tokenizer


def report(checks: Iterable[Check], folder: Path, started: float, out: Path) -> None:
    """Prints the table of checks, and the size and time of the conversion.

    Raises:
        UserError: If a check failed. The folder is then deleted.
    """
    checks = list(checks)
    print(*listed_checks(checks), sep="\n")
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise UserError(f"{out}: not written, because the result differs from the original model: {'; '.join(failed)}")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"wrote  {out}: {size / 1e6:,.1f} MB in {time.monotonic() - started:.1f} s")


def listed(names: Iterable[str]) -> str:
    """Returns the first three names, and the number of further names, as text."""
    first, *others = sorted(names)
    return ", ".join([first, *others[:2]]) + (f" and {len(others) - 2} more" if len(others) > 2 else "")


def checked_output(name: str, overwrite: bool, source: str) -> Path:
    """Returns the folder to write to.

    Args:
        name: the folder.
        overwrite: whether an existing model folder may be replaced.
        source: the model that is read. The folder must not be or contain it, or replacing it would delete the model.

    Raises:
        UserError: If the folder exists and may not be replaced, if it is or contains the source, or if it cannot be
            written.
    """
    out = Path(name).resolve()
    if Path(source).exists() and out in (Path(source).resolve(), *Path(source).resolve().parents):
        raise UserError(f"{out}: this folder is or contains the model to convert; name another folder")
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; name another folder, or give --overwrite")
    if out.exists() and not (out / "config.json").is_file() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out}: is no model folder, so --overwrite does not replace it; name another one")
    parent = next(folder for folder in out.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{out}: {parent} is not a folder that can be written to; name another one")
    return out


def require_tokenizer(tokenizer: Any, why: str) -> None:
    if tokenizer is None:
        raise UserError(f"the model has no tokenizer, but {why}; save the tokenizer into the model's folder")


def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """Turns an `InteropError` into a `UserError` of one line that begins with `name`."""
    try:
        yield
    except InteropError as error:
        raise UserError(f"{name}: {error}") from error
