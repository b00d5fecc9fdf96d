"""Loads a saved model from a folder or the Hub, and reports damage in one line.

from_pretrained() reports damage badly. A truncated file raises a SafetensorError that names no file. A missing
tokenizer raises a list of 150 configuration classes. A broken generation_config.json is ignored. Missing tensors are
filled with random numbers. So the files of a local folder are checked before loading (`model_files.py`), and the model
after loading.
"""

import functools
import logging
import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError, StrictDataclassClassValidationError
from huggingface_hub.utils import validate_repo_id
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
from vanilla_recipes.models.model_files import (
    OTHER_VOCABULARIES,
    REMEDY,
    TOKENIZER_FILES,
    check_folder,
    has_tokenizer_files,
    holds_any,
    models_below,
)
from vanilla_recipes.models.saved_code import outdated
from vanilla_transformers.releases import install_command

logger = logging.getLogger(__name__)

LONGEST_CAUSE = 240  # maximum number of characters of a library's message; some messages list every class
_OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
LISTED = 4  # maximum number of wrong tensors that an error names
LARGEST_WEIGHT = 1e6  # far above trained weights; a flipped top bit of an fp32 exponent gives 1e19 or more


def load_saved(
    name: str,
    model_class: Any,
    check_config: Callable[[PreTrainedConfig], Any],
    may_lack: Callable[[str], bool] = lambda tensor: False,
    needs_tokenizer: bool = True,
    warns_of_old_code: bool = True,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """Loads a saved model and its tokenizer, and checks that both are complete and belong together.

    Args:
        name: a folder written by save_pretrained(), or the name of a model on the Hub.
        model_class: the class, or Auto class, that loads the model.
        check_config: called with the config before the weights are read. It refuses a model of the wrong type, may
            change the config, and may return a class that loads the model instead of `model_class`.
        may_lack: whether a tensor, given by its name, may be missing or have another shape. Such a tensor is
            initialized at random.
        needs_tokenizer: whether a folder without any tokenizer file is refused. If false, the tokenizer is then `None`.
        warns_of_old_code: whether to warn if the code saved in the folder is older than this package needs. The model
            itself is loaded correctly in any case.
        kwargs: for `from_pretrained` of the model.

    Returns:
        The model and its tokenizer.

    Raises:
        UserError: If the model does not exist, is damaged, or is refused.
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
    if getattr(model, "generation_config", None) is not None:  # a classifier has no generation config
        check_generation(name, model.generation_config.to_dict(), num_rows(model))
    if tokenizer is not None:
        check_vocabulary(name, tokenizer, model)
        check_padding(name, tokenizer, model)
    if is_local and warns_of_old_code:
        _tell_outdated(Path(name))
    return model, tokenizer


@functools.cache  # each folder causes one warning only
def _tell_outdated(folder: Path) -> None:
    fault = outdated(folder)
    if fault is not None:
        logger.warning(fault)


def check_hub_name(name: str) -> None:
    """Refuses a name that looks like a local path, so that a mistyped path does not load a model from the Hub.

    Raises:
        UserError: If the parent folder of the name exists, or the Hub does not allow such a name.
    """
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
    """Turns any exception, which libraries raise in many classes for a damaged file, into a one-line `UserError`.

    Args:
        name: the model, for the message.
        part: the part of the model that is read, for the message.
    """
    try:
        yield
    except Exception as error:
        # The message of this exception names only the validator. The message of its cause says what is wrong.
        named = isinstance(error, StrictDataclassClassValidationError)
        cause = one_line(str(error.__cause__ if named and error.__cause__ else error))
        if isinstance(error, KeyError) or not cause:
            cause = one_line(repr(error))
        if "requires the SentencePiece library" in cause:
            cause = f"it needs SentencePiece: {install_command('sentencepiece')}"
        cause = refusal(error) or cause
        raise UserError(f"{name}: {part} cannot be loaded: {textwrap.shorten(cause, LONGEST_CAUSE)}") from error


@contextmanager
def reading_from(name: str, part: str, hub_fault: str | None) -> Iterator[None]:
    """Like `reading`. If there is no local folder `name`, the error says so, and why the Hub cannot be reached.

    Args:
        name: a folder, or a name on the Hub.
        part: the part of the model that is read, for the message.
        hub_fault: why the Hub cannot be reached, or None. The Hub's local cache may still hold the model.
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
    """Loads the configuration of a model.

    Its settings of the output format (tuple, attentions, hidden states) are reset to the defaults of transformers: the
    code that calls the model chooses the format.

    Args:
        name: a folder, or a name on the Hub.
        hub_fault: as in `reading_from`.

    Raises:
        UserError: If the configuration cannot be loaded, or its model type is unknown.
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
    """Loads the tokenizer of a model. Errors name the tokenizer files that the folder lacks.

    Args:
        name: a folder, or a name on the Hub.
        hub_fault: as in `reading_from`.
        model_type: the model type in config.json. For the model types of transformers, the tokenizer class sets the
            special tokens, so a vocabulary file without tokenizer_config.json is enough.

    Raises:
        UserError: If the tokenizer is missing or damaged.
    """
    folder = Path(name)
    lacking = [file for file in TOKENIZER_FILES if folder.exists() and not (folder / file).is_file()]
    if holds_any(folder, *OTHER_VOCABULARIES):  # older checkpoints have a vocabulary file instead of tokenizer.json
        is_stock_type = bool(TOKENIZER_MAPPING_NAMES.get(model_type))
        lacking = [file for file in lacking if file == "tokenizer_config.json" and not is_stock_type]
    if len(lacking) == len(TOKENIZER_FILES):
        raise UserError(
            f"{name}: the tokenizer ({' and '.join(lacking)}) is missing; save the tokenizer that the model was "
            "trained with into the folder, by tokenizer.save_pretrained()"
        )
    if "tokenizer_config.json" in lacking:  # without it, tokenizer.json loads as a tokenizer without special tokens
        raise UserError(f"{name}: the tokenizer ({' and '.join(lacking)} missing) cannot be loaded: {REMEDY}")
    part = f"the tokenizer ({' and '.join(lacking)} missing)" if lacking else "the tokenizer"
    with reading_from(name, part, hub_fault):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    limit = tokenizer.model_max_length  # "no limit" is a huge number, in some files the float 1e30
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
    """Loads the weights of a model, and refuses it if tensors are missing or have another shape.

    from_pretrained() fills such tensors with random numbers. This is accepted only for tensors that `may_lack` allows.

    Raises:
        UserError: If the weights cannot be loaded, are incomplete, or are not finite.
    """
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
    """Turns an entry of transformers' loading report into a tensor's name and, if its shapes differ, their text."""
    if isinstance(entry, str):
        return entry, ""
    tensor, found, needed = entry
    return tensor, f"{tuple(found)} for {tuple(needed)}"


@contextmanager
def no_load_report() -> Iterator[None]:
    """Suppresses transformers' table of missing tensors: `load_model` reports them in one line, or allows them."""
    logger = logging.getLogger("transformers.modeling_utils")

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(is_other)  # raising the log level instead would make transformers check tensor-parallel plans
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def check_weights(name: str, model: PreTrainedModel) -> None:
    """Refuses weights that are NaN, infinite or far too large: they load without an error but give nonsense.

    Raises:
        UserError: If a weight is NaN, infinite or greater than `LARGEST_WEIGHT`.
    """
    for parameter_name, parameter in model.named_parameters():
        largest = max(map(abs, map(float, parameter.detach().aminmax()))) if parameter.numel() else 0.0
        if not largest <= LARGEST_WEIGHT:
            what = f"a weight of {largest:.3g}" if math.isfinite(largest) else "NaN or infinity"
            raise UserError(f"{name}: {parameter_name} holds {what}; {REMEDY}")


def num_rows(model: PreTrainedModel) -> int:
    """The number of rows of the model's token embedding, which is its vocabulary size."""
    return next(model.get_input_embeddings().parameters()).shape[0]


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuses a tokenizer that can give ids beyond the rows of the model's embedding.

    Raises:
        UserError: If the largest token id has no row in the embedding.
    """
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= num_rows(model):
        raise UserError(
            f"{name}: the tokenizer gives ids up to {largest}, but the model knows {num_rows(model)} tokens; "
            "they do not belong together: save the tokenizer that the model was trained with into the folder"
        )


def check_padding(name: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuses an encoder-decoder whose tokenizer cannot pad.

    Other models may lack a padding token, because blocks of text of equal length need no padding.

    Raises:
        UserError: If the tokenizer has no padding token, or fails to pad.
    """
    if not model.config.is_encoder_decoder:
        return
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{name}: the tokenizer has no padding token, which the shorter sentences of a batch are filled up with; "
            "set pad_token in tokenizer_config.json to the token that the model was trained with"
        )
    with reading(name, "the tokenizer"):
        tokenizer.pad({"input_ids": [[tokenizer.pad_token_id]]})
