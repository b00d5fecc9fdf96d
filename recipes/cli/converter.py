"""`vanilla import` and `vanilla export`: convert a folder, prove the result with what will read it, then keep it."""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from vanilla_transformers import VanillaConfig
from vanilla_transformers.interop.checks import Check, InteropError
from vanilla_transformers.interop.conversion import (
    architecture_of,
    class_for_head,
    from_stock,
    our_head,
    stock_head,
    to_stock,
)
from vanilla_transformers.interop.conversion import load_stock as load_stock_class
from vanilla_transformers.interop.proof import SENTENCES, compare, there_and_back
from vanilla_transformers.recipes.engine.folders import complete_folder
from vanilla_transformers.recipes.engine.model_folder import load_saved
from vanilla_transformers.recipes.errors import UserError


def import_model(arguments: argparse.Namespace) -> int:
    """Write one of our models with the weights of a stock one."""
    out = checked_output(arguments.out, arguments.overwrite)
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
        checks = [there_and_back(architecture, model, stock, head), *compare(stock.float(), written, tokenizer)]
        report(checks, folder, started, out)
    return 0


def export_model(arguments: argparse.Namespace) -> int:
    """Write a stock model, or a model of another library, with the weights of one of ours."""
    out = checked_output(arguments.out, arguments.overwrite)
    target = arguments.to
    if arguments.quantization is not None and target != "ctranslate2":
        raise UserError(f"--quantization {arguments.quantization}: it is for --to ctranslate2, not for {target}")
    started = time.monotonic()
    model, tokenizer = load_ours(arguments.model)
    with complete_folder(out) as folder, refusals(arguments.model):
        writers: dict[str, Callable[[], list[Check]]] = {
            "ctranslate2": lambda: write_ctranslate2(model, tokenizer, folder, arguments.quantization or "float32"),
            "onnx": lambda: write_onnx(model, tokenizer, folder),
        }
        checks = writers[target]() if target in writers else write_stock(model, tokenizer, folder, target)
        report(checks, folder, started, out)
    return 0


def write_stock(model: PreTrainedModel, tokenizer: Any, folder: Path, model_type: str) -> list[Check]:
    """A folder of a class of transformers' own."""
    architecture = architecture_of(model_type)
    head = our_head(architecture, model)
    stock = to_stock(model, model_type)
    for note in architecture.notes_out(stock):
        print(f"note   {note}")
    save(folder, stock, tokenizer)
    written = architecture.heads[head].stock_class.from_pretrained(folder, dtype=torch.float32).eval()
    return [there_and_back(architecture, model, stock, head), *compare(model.float(), written, tokenizer)]


def write_ctranslate2(model: PreTrainedModel, tokenizer: Any, folder: Path, quantization: str) -> list[Check]:
    """A folder that `ctranslate2.Translator` or `Generator` reads."""
    with needs_extra("ctranslate2"):
        from vanilla_transformers.interop import ctranslate2
    require_tokenizer(tokenizer, "CTranslate2 stores the vocabulary")
    ctranslate2.write(model, tokenizer, folder, quantization)
    return ctranslate2.check(model, tokenizer, folder, list(SENTENCES))


def write_onnx(model: PreTrainedModel, tokenizer: Any, folder: Path) -> list[Check]:
    """A folder of graphs that onnxruntime and Optimum read."""
    with needs_extra("onnx"):
        from vanilla_transformers.interop import onnx
    require_tokenizer(tokenizer, "its sentences are what the graphs are proved with")
    onnx.write(model, folder)
    tokenizer.save_pretrained(folder)
    return onnx.check(model, tokenizer, folder, list(SENTENCES))


class ByArchitecture:
    """Loads the stock class that config.json names, or the one of a task that was asked for."""

    def __init__(self, head: str | None) -> None:
        self.head = head

    def from_pretrained(self, name: str, *, config: PreTrainedConfig, **kwargs: Any) -> Any:
        del kwargs["output_loading_info"]
        return load_stock_class(class_for_head(config, self.head), name, config=config, **kwargs)


def load_stock(name: str, head: str | None) -> tuple[PreTrainedModel, Any]:
    """A stock model in evaluation mode, and its tokenizer if it has one.

    Raises:
        UserError: there is no such model, it is damaged, or it cannot be converted.
    """

    def check_config(config: PreTrainedConfig) -> None:
        if isinstance(config, VanillaConfig):
            raise UserError(f"{name}: this is a {config.model_type} already; `vanilla export` is the other way")
        with refusals(name):
            architecture = architecture_of(config.model_type)
            stock_head(architecture, class_for_head(config, head).__name__)

    quiet()
    model, tokenizer = load_saved(name, ByArchitecture(head), check_config, needs_tokenizer=False, dtype="auto")
    return model.eval(), tokenizer


def load_ours(name: str) -> tuple[PreTrainedModel, Any]:
    """One of our models in evaluation mode, and its tokenizer if it has one.

    Raises:
        UserError: there is no such model, it is damaged, or it is none of ours.
    """

    def check_config(config: PreTrainedConfig) -> None:
        if not isinstance(config, VanillaConfig):
            raise UserError(
                f"{name}: this is a {config.model_type}; export takes our models: `vanilla import {name} FOLDER` first"
            )

    quiet()
    model, tokenizer = load_saved(name, OurClass, check_config, needs_tokenizer=False, dtype="auto")
    return model.eval(), tokenizer


class OurClass:
    """Loads the class of ours that config.json names."""

    @staticmethod
    def from_pretrained(name: str, *, config: PreTrainedConfig, **kwargs: Any) -> Any:
        import vanilla_transformers

        (class_name,) = config.architectures or ("",)
        if not hasattr(vanilla_transformers, class_name):
            raise UserError(f"{name}: the architecture in its config.json is {class_name!r}, which is no class of ours")
        return getattr(vanilla_transformers, class_name).from_pretrained(name, config=config, **kwargs)


def save(folder: Path, model: PreTrainedModel, tokenizer: Any) -> None:
    model.save_pretrained(folder)
    if tokenizer is None:
        print("note   there is no tokenizer beside the model, so none is written and no sentences are compared")
    else:
        tokenizer.save_pretrained(folder)


def report(checks: Iterable[Check], folder: Path, started: float, out: Path) -> None:
    """Print the table.

    Raises:
        UserError: a comparison failed; the folder around it is then given up.
    """
    checks = list(checks)
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{'ok' if check.passed else 'FAILED':6} {check.name:{width}}  {check.result}")
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise UserError(
            f"{out}: not written, because the result differs from the model it was made of: {'; '.join(failed)}"
        )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"wrote  {out}: {size / 1e6:,.1f} MB in {time.monotonic() - started:.1f} s")


def checked_output(name: str, overwrite: bool) -> Path:
    """Where to write.

    Raises:
        UserError: something is there already and may not be replaced.
    """
    out = Path(name)
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; name another folder, or give --overwrite")
    if out.exists() and not (out / "config.json").is_file() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out}: is no model folder, so --overwrite leaves it alone; name another one")
    return out


def require_tokenizer(tokenizer: Any, why: str) -> None:
    if tokenizer is None:
        raise UserError(f"there is no tokenizer beside the model, but {why}; save it into the model's folder")


def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """What cannot be converted is told in one line that names the model."""
    try:
        yield
    except InteropError as error:
        raise UserError(f"{name}: {error}") from error


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UserError(
            f'--to {extra}: {error.name} is not installed; pip install "vanilla_transformers[{extra}]"'
        ) from error
