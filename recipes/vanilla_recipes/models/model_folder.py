"""Loads a saved model from a folder or the Hub, and says in one line what is wrong with a damaged one.

from_pretrained() reports damage in many ways: a truncated file is a SafetensorError that names no file, a missing
tokenizer a list of 150 configuration classes, a broken generation_config.json nothing at all, and missing tensors a
model of random numbers. So the files of a local folder are checked first, and what was loaded afterwards.
"""

import functools
import json
import logging
import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError, StrictDataclassClassValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.hub import hub_or_cache, refusal
from vanilla_recipes.models.generation_settings import check_generation, is_whole
from vanilla_recipes.models.saved_code import outdated

logger = logging.getLogger(__name__)

GENERATION = "generation_config.json"
SINGLE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
OTHER_VOCABULARIES = ("*.spm", "*.model", "vocab*")  # of tokenizers that are not in tokenizer.json
OTHER_FILES = ("vocab.json", "added_tokens.json", "special_tokens_map.json")  # of older tokenizers
REMEDY = "the folder is damaged or was not written to its end; copy or save it again"
LONGEST_CAUSE = 240  # characters of a library's message; some list every class there is
_OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
LISTED = 4  # tensors that are named where many are wrong
LARGEST_WEIGHT = 1e6  # far beyond any that training gives; a flipped bit makes it 1e19 and more


def load_saved(
    name: str,
    model_class: Any,
    check_config: Callable[[PreTrainedConfig], Any],
    may_lack: Callable[[str], bool] = lambda tensor: False,
    needs_tokenizer: bool = True,
    tells_outdated: bool = True,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """A saved model and its tokenizer, both known to be whole and to belong together.

    Args:
        name: a folder written by save_pretrained(), or the name of a model on the Hub.
        model_class: the class, or Auto class, that loads it.
        check_config: refuses a model of the wrong kind, before its weights are read; it may change settings, and return
            the class that is to load it in place of `model_class`.
        may_lack: whether a tensor may be missing or have another shape, and starts at random then.
        needs_tokenizer: whether a folder without any file of a tokenizer is refused; else `None` stands for it.
        tells_outdated: whether a folder whose code must be renewed is told in a line; the model is right all the same.
        kwargs: for `from_pretrained` of the model.

    Raises:
        UserError: there is no such model, it is damaged, or it is refused.
    """
    is_local = Path(name).exists()
    if is_local:
        check_folder(Path(name))
    else:
        check_hub_name(name)
    with nullcontext() if is_local else hub_or_cache() as hub_fault:
        config = load_config(name, hub_fault)
        model_class = check_config(config) or model_class
        model = load_model(name, config, model_class, may_lack, **kwargs)
        has_tokenizer = needs_tokenizer or not is_local or has_tokenizer_files(Path(name))
        tokenizer = load_tokenizer(name, hub_fault, config.model_type) if has_tokenizer else None
    if getattr(model, "generation_config", None) is not None:  # a classifier has none
        check_generation(name, model.generation_config.to_dict(), num_rows(model))
    if tokenizer is not None:
        check_vocabulary(name, tokenizer, model)
        check_padding(name, tokenizer, model)
    if is_local and tells_outdated:
        _tell_outdated(Path(name))
    return model, tokenizer


@functools.cache  # once for each folder
def _tell_outdated(folder: Path) -> None:
    fault = outdated(folder)
    if fault is not None:
        logger.warning(fault)


def has_tokenizer_files(folder: Path) -> bool:
    """Whether a folder holds any file that a tokenizer is made of."""
    return _holds_any(folder, *TOKENIZER_FILES, *OTHER_FILES, *OTHER_VOCABULARIES)


def _holds_any(folder: Path, *patterns: str) -> bool:
    return any(any(folder.glob(pattern)) for pattern in patterns)


# Before loading: the files of a folder


def check_folder(folder: Path) -> None:
    """Read as much of every file as shows whether it is whole, without loading the weights."""
    if not folder.is_dir():
        raise UserError(f"{folder}: this is a file; name the model folder that holds config.json")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: there is no config.json in it, so it is no model folder{models_below(folder)}")
    for name in ("config.json", *TOKENIZER_FILES, *OTHER_FILES):
        if (folder / name).is_file():
            check_json(folder / name)
    if (folder / GENERATION).is_file():
        check_generation(str(folder), check_json(folder / GENERATION))
    for file in weight_files(folder):
        check_weight_file(file)


def models_below(folder: Path) -> str:
    """The way out for somebody who names the run folder instead of the model inside it."""
    found = sorted(str(file.parent) for file in folder.glob("*/config.json"))
    return f"; did you mean {' or '.join(found)}?" if found else ""


def check_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: this is not valid JSON ({one_line(str(error))}); {REMEDY}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: it holds a {type(content).__name__} where a JSON object belongs; {REMEDY}")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model; empty if it is saved in torch's older format, which loading reports on."""
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    if (folder / INDEX).is_file():
        shards = check_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
            raise UserError(f"{folder / INDEX}: there is no weight_map in it that names the files; {REMEDY}")
        return [folder / shard for shard in sorted(set(shards.values()))]
    if any(folder.glob("pytorch_model*.bin")):
        return []
    raise UserError(f"{folder}: the weights are missing ({SINGLE_FILE}); {REMEDY}")


def check_weight_file(file: Path) -> None:
    """A safetensors header gives the length of its file, so opening it finds every truncation."""
    if not file.is_file():
        raise UserError(f"{file}: this part of the weights is missing; {REMEDY}")
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except SafetensorError as error:
        raise UserError(f"{file}: the weights cannot be read ({one_line(str(error))}); {REMEDY}") from error


def check_hub_name(name: str) -> None:
    """A path that is not there must not become a question to the Hub, where it may be somebody's model."""
    parent = Path(name).parent
    if parent != Path() and parent.is_dir():
        raise UserError(f"{name}: there is no such folder{models_below(parent)}")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{name}: there is no such folder, and it cannot be the name of a model on the Hub") from error


# Loading


@contextmanager
def reading(name: str, part: str) -> Iterator[None]:
    """Whatever a library raises over a damaged file, from KeyError to classes of its own, becomes one line."""
    try:
        yield
    except Exception as error:
        named = isinstance(error, StrictDataclassClassValidationError)  # after a validator, which tells a user nothing
        cause = one_line(str(error.__cause__ if named and error.__cause__ else error))
        if isinstance(error, KeyError) or not cause:
            cause = one_line(repr(error))
        if "requires the SentencePiece library" in cause:
            cause = 'it needs SentencePiece: pip install "vanilla_transformers[sentencepiece]"'
        cause = refusal(error) or cause
        raise UserError(f"{name}: {part} cannot be loaded: {textwrap.shorten(cause, LONGEST_CAUSE)}") from error


@contextmanager
def reading_from(name: str, part: str, hub_fault: str | None) -> Iterator[None]:
    """As `reading`, of a folder or else of a name on the Hub: what lies in neither place is told as such.

    Args:
        name: a folder, or a name on the Hub.
        part: what is read.
        hub_fault: why the Hub cannot be asked; its cache may still hold it.
    """
    is_local = Path(name).exists()
    try:
        with reading(name, part if is_local else "there is no such folder here, and from the Hub it"):
            yield
    except UserError as error:
        if is_local or hub_fault is None:
            raise
        raise UserError(
            f"{name}: there is no such folder here, and the Hugging Face Hub cannot be reached ({hub_fault}); "
            "give the folder of a saved model, or mend the connection"
        ) from error


def load_config(name: str, hub_fault: str | None = None) -> PreTrainedConfig:
    """The configuration, of a model type that is known; the arguments are those of `reading_from`.

    What it says about the form of outputs is left out: it is for whoever calls the model to choose.
    """
    with reading_from(name, "the configuration", hub_fault):
        model_type = PreTrainedConfig.get_config_dict(name)[0].get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise UserError(
            f"{name}: the model_type in its config.json is {model_type!r}, which neither transformers nor this package "
            "knows; code that comes with a model is not run"
        )
    with reading_from(name, "the configuration", hub_fault):
        return AutoConfig.from_pretrained(name, trust_remote_code=False, **_OUTPUTS)


def load_tokenizer(name: str, hub_fault: str | None = None, model_type: str = "") -> Any:
    """The tokenizer; what the folder lacks of its usual files is named.

    Args:
        name: a folder, or a name on the Hub.
        hub_fault: as in `reading_from`.
        model_type: of the model beside it; to a stock one belongs a class that knows its special tokens.
    """
    folder = Path(name)
    lacking = [file for file in TOKENIZER_FILES if folder.exists() and not (folder / file).is_file()]
    if _holds_any(folder, *OTHER_VOCABULARIES):  # as old checkpoints were saved
        is_stock_type = bool(TOKENIZER_MAPPING_NAMES.get(model_type))
        lacking = [file for file in lacking if file == "tokenizer_config.json" and not is_stock_type]
    if len(lacking) == len(TOKENIZER_FILES):
        raise UserError(
            f"{name}: the tokenizer ({' and '.join(lacking)}) is missing; save the one that the model was trained with "
            "there, by tokenizer.save_pretrained()"
        )
    if "tokenizer_config.json" in lacking:  # without it, tokenizer.json loads as a tokenizer without special tokens
        raise UserError(f"{name}: the tokenizer ({' and '.join(lacking)} missing) cannot be loaded: {REMEDY}")
    part = f"the tokenizer ({' and '.join(lacking)} missing)" if lacking else "the tokenizer"
    with reading_from(name, part, hub_fault):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    limit = tokenizer.model_max_length  # without one it is a large number, which some files have as 1e30
    if isinstance(limit, float) and limit.is_integer():
        tokenizer.model_max_length = limit = int(limit)
    if not is_whole(limit, 1):
        raise UserError(
            f"{name}: model_max_length is {limit!r} in tokenizer_config.json, but must be a whole number of at least "
            "1, or null for no limit; mend the file"
        )
    return tokenizer


def load_model(
    name: str, config: PreTrainedConfig, model_class: Any, may_lack: Callable[[str], bool], **kwargs: Any
) -> PreTrainedModel:
    """The model, complete but for what it may lack: from_pretrained() fills whatever is missing with random numbers."""
    with reading(name, "the model"), no_load_report():
        model, report = model_class.from_pretrained(
            name,
            config=config,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **kwargs,
        )
    for entries, fault in ((report["missing_keys"], "are missing"), (report["mismatched_keys"], "have another shape")):
        faulty = sorted(entry for entry in map(_as_entry, entries) if not may_lack(entry[0]))
        if faulty:
            listed = ", ".join(f"{tensor} {shapes}".strip() for tensor, shapes in faulty[:LISTED])
            more = f" and {len(faulty) - LISTED} more" if len(faulty) > LISTED else ""
            raise UserError(
                f"{name}: tensors that config.json asks for {fault} in the weights: {listed}{more}; "
                "the two files do not belong together, or one was edited"
            )
    check_weights(name, model)
    return model


def _as_entry(entry: str | tuple[str, Any, Any]) -> tuple[str, str]:
    """A tensor of transformers' report, with both of its shapes where they differ."""
    if isinstance(entry, str):
        return entry, ""
    tensor, found, needed = entry
    return tensor, f"{tuple(found)} for {tuple(needed)}"


@contextmanager
def no_load_report() -> Iterator[None]:
    """Keeps transformers' table of missing tensors off the screen: they are told in a line, or wanted."""
    logger = logging.getLogger("transformers.modeling_utils")

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(is_other)  # a level above warnings would make transformers check tensor-parallel plans
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def check_weights(name: str, model: PreTrainedModel) -> None:
    """Numbers that no training gives are read without complaint, and then nonsense comes out."""
    for parameter_name, parameter in model.named_parameters():
        largest = max(map(abs, map(float, parameter.detach().aminmax()))) if parameter.numel() else 0.0
        if not largest <= LARGEST_WEIGHT:
            what = f"a weight of {largest:.3g}" if math.isfinite(largest) else "NaN or infinity"
            raise UserError(f"{name}: {parameter_name} holds {what}; {REMEDY}")


def num_rows(model: PreTrainedModel) -> int:
    """The number of tokens that the model knows."""
    return next(model.get_input_embeddings().parameters()).shape[0]


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Every id that the tokenizer can give needs a row of the embedding."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= num_rows(model):
        raise UserError(
            f"{name}: the tokenizer gives ids up to {largest}, but the model knows {num_rows(model)} tokens; "
            "they do not belong together: save the tokenizer that the model was trained with into the folder"
        )


def check_padding(name: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """The sources of an encoder-decoder are padded to one length; a decoder may be trained on blocks."""
    if not model.config.is_encoder_decoder:
        return
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{name}: the tokenizer has no padding token, which the shorter sentences of a batch are filled up with; "
            "name the one that the model was trained with as pad_token in tokenizer_config.json"
        )
    with reading(name, "the tokenizer"):
        tokenizer.pad({"input_ids": [[tokenizer.pad_token_id]]})
