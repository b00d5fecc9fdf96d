"""The languages of a translation model: what its tokenizer and its search have to be told."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CODE = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}")  # NLLB's deu_Latn, mBART's de_DE
_MOST_LISTED = 30


@dataclass(frozen=True)
class Direction:
    """How a model is told from which language to which it translates.

    Attributes:
        prefix: begins each source text.
        settings: for `generate`.
    """

    prefix: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def set_direction(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None
) -> Direction:
    """Tells the tokenizer the source language, and returns what the target language calls for.

    Args:
        model: an encoder-decoder.
        tokenizer: its tokenizer; that of a multilingual model keeps the source language as `src_lang`.
        source: its code as the tokenizer has it, such as `eng_Latn` (NLLB), `en` (M2M100) or `en_XX` (mBART).
        target: likewise; for a Marian model with several target languages the `deu` of its `>>deu<<`.

    Raises:
        ValueError: a code is missing or unknown, or the model has one direction only.
    """
    codes = language_codes(tokenizer)
    if codes:
        _set_source(tokenizer, source, codes)
        return Direction(settings=_target_settings(model, target, codes))
    marks = getattr(tokenizer, "supported_language_codes", None) or []
    if marks and source is None:
        known = [mark.strip("<>") for mark in marks]
        return Direction() if target is None else Direction(f">>{_checked('tgt_lang', target, known)}<< ")
    given = {"src_lang": source, "tgt_lang": target}
    for name, code in given.items():
        if code is not None:
            raise ValueError(f"{name}={code!r}: the model has no choice of {name}; leave it out")
    return Direction()


def language_codes(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The ids of the language codes of a multilingual tokenizer (M2M100, NLLB, mBART); empty for any other."""
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if codes is None and hasattr(tokenizer, "src_lang"):
        codes = {token: id_ for token, id_ in tokenizer.get_added_vocab().items() if _CODE.fullmatch(token)}
    return dict(codes or {})


def _set_source(tokenizer: PreTrainedTokenizerBase, code: str | None, codes: Mapping[str, int]) -> None:
    code = code or tokenizer.init_kwargs.get("src_lang")  # without it the class takes English, unasked
    if code is None:
        raise ValueError(f"src_lang is missing: the model reads several languages; {_listed(codes)}")
    tokenizer.src_lang = _checked("src_lang", code, codes)


def _target_settings(model: PreTrainedModel, code: str | None, codes: Mapping[str, int]) -> dict[str, int]:
    """mBART models of one pair begin with the language itself, all others force it behind their start token."""
    begins = getattr(model.generation_config, "decoder_start_token_id", None) in codes.values()
    if code is None:
        if begins or model.generation_config.forced_bos_token_id in codes.values():
            return {}
        raise ValueError(f"tgt_lang is missing: the model writes several languages; {_listed(codes)}")
    code_id = codes[_checked("tgt_lang", code, codes)]
    return {"decoder_start_token_id" if begins else "forced_bos_token_id": code_id}


def _checked(name: str, code: str, known: Iterable[str]) -> str:
    known = list(known)
    if code not in known:
        near = _nearest(code, known)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else _listed(known)
        raise ValueError(f"{name}={code!r}: the model has no such language; {hint}")
    return code


def _nearest(code: str, known: Iterable[str]) -> list[str]:
    """`de` is meant for `deu_Latn`, which no measure of edits would find."""
    begins = [name for name in known if name.lower().startswith(code.lower())]
    return begins[:3] or difflib.get_close_matches(code, list(known), n=3)


def _listed(codes: Iterable[str]) -> str:
    names = sorted(codes)
    some = ", ".join(names[:_MOST_LISTED])
    return f"the codes are {some}" if len(names) <= _MOST_LISTED else f"there are {len(names)} codes, such as {some}"
