"""Splits texts into sentences, for texts that are longer than the longest input of a translation model.

A sentence ends

- after `.`, `!`, `?` or `…` and closing quotation marks or brackets, if white space follows and the next character is
  not a lower-case letter; but not after a single letter or a number of one or two digits with a full stop
  (`J. S. Bach`, `am 3. Oktober`);
- after a full stop of a script without spaces between sentences: Chinese and Japanese `。！？｡`, Devanagari `।॥`,
  Arabic and Urdu `؟۔`, Armenian `։`, Ethiopic `።፧`, Burmese `။`, Khmer `។៕`;
- at the end of a line.

The full stop of an abbreviation before a name, such as `Dr.`, is treated as the end of a sentence. No text is lost,
because the translated sentences are joined again.
"""

# ruff: noqa: RUF001, RUF002 (letters of other scripts look like Latin ones)

import re
from collections.abc import Sequence

_CLOSING = r"[\"'”’»)\]】」』）]*"
_END = re.compile(rf"(?P<mark>[.!?…]+{_CLOSING}(?=\s)|[。！？｡।॥؟۔։።፧။។៕]+{_CLOSING}|(?=\n))(?P<gap>\s*)")
_NUMBER_OR_LETTER = re.compile(r"(?:^|[\W_])(?:[^\W\d_]|\d\d?)$")
_NO_SPACE = "。！？｡」』）】"
"""Marks after which the next sentence follows without a space."""


def split_sentences(text: str) -> list[tuple[str, str]]:
    """The sentences of a text, each with the white space after it. Joined, they give the stripped text."""
    text = text.strip()
    sentences, start = [], 0
    for end in _END.finditer(text):
        if end.start() > start and not _goes_on(text, end):
            sentences.append((text[start : end.end("mark")], end["gap"]))
            start = end.end()
    return [*sentences, (text[start:], "")] if start < len(text) else sentences


def _goes_on(text: str, end: re.Match[str]) -> bool:
    """Whether the sentence continues after a mark that looks like its end."""
    if "\n" in end["gap"] or end.end() == len(text):
        return False
    is_short = end["mark"] == "." and _NUMBER_OR_LETTER.search(text, max(0, end.start() - 3), end.start())
    return bool(is_short) or text[end.end()].islower()


def join_sentences(sentences: Sequence[str], gaps: Sequence[str]) -> str:
    """Joins translated sentences into one text.

    Line breaks of the source are kept. Other sentences are joined with one space, or without a space after a full stop
    of Chinese or Japanese.

    Args:
        sentences: the translated sentences, at least one.
        gaps: the white space after each sentence in the source.
    """
    text = sentences[0]
    for gap, sentence in zip(gaps, sentences[1:], strict=False):
        if "\n" not in gap:
            gap = "" if text.endswith(tuple(_NO_SPACE)) else " "
        text += gap + sentence
    return text
