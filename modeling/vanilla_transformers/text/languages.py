"""Sets the languages of a translation: the source in the tokenizer, the target by a prefix or `generate` settings."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CODE = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}")  # language codes such as deu_Latn (NLLB) and de_DE (mBART)
_MOST_LISTED = 30  # maximum number of language codes in an error message


@dataclass(frozen=True)
class Direction:
    """How the target language of a translation is selected: by a prefix, or by settings of `generate`.

    Attributes:
        prefix: a string to put before each source text.
        settings: settings of `generate`.
    """

    prefix: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def set_direction(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None
) -> Direction:
    """Sets the source language of the tokenizer, and returns the prefix or the settings for the target language.

    Args:
        model: an encoder-decoder.
        tokenizer: the tokenizer of the model. A multilingual tokenizer is changed in place: `src_lang` is set.
        source: the code of the source language in the tokenizer, such as `eng_Latn` (NLLB), `en` (M2M100) or `en_XX`
            (mBART); by default the `src_lang` that the tokenizer was saved with.
        target: the code of the target language. For a Marian model with several target languages it is the code
            without marks: `deu` for `>>deu<<`.

    Raises:
        ValueError: if a code is missing or unknown, or a code is given for a model of a single language pair.
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
            raise ValueError(f"{name}={code!r}: this model takes no {name}; leave it out")
    return Direction()


def language_codes(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The token id of each language code of a multilingual tokenizer (M2M100, NLLB, mBART); empty for others."""
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if codes is None and hasattr(tokenizer, "src_lang"):
        codes = {token: id_ for token, id_ in tokenizer.get_added_vocab().items() if _CODE.fullmatch(token)}
    return dict(codes or {})


def _set_source(tokenizer: PreTrainedTokenizerBase, code: str | None, codes: Mapping[str, int]) -> None:
    code = code or tokenizer.init_kwargs.get("src_lang")  # tokenizer.src_lang would default to English
    if code is None:
        raise ValueError(f"src_lang is missing: the model reads several languages; {_listed(codes)}")
    tokenizer.src_lang = _checked("src_lang", code, codes)


def _target_settings(model: PreTrainedModel, code: str | None, codes: Mapping[str, int]) -> dict[str, int]:
    """The setting of `generate` that selects the target language.

    In an mBART model for one language pair, the language code is the start token. In any other model, the code is a
    forced token after the start token.
    """
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
    """Up to three known codes that the user may have meant.

    Codes that begin with `code` come first: `de` means `deu_Latn`, which an edit distance would not find.
    """
    begins = [name for name in known if name.lower().startswith(code.lower())]
    return begins[:3] or difflib.get_close_matches(code, list(known), n=3)


def _listed(codes: Iterable[str]) -> str:
    names = sorted(codes)
    some = ", ".join(names[:_MOST_LISTED])
    return f"the codes are {some}" if len(names) <= _MOST_LISTED else f"there are {len(names)} codes, such as {some}"
