"""Where the sentences of a text end, for texts that are longer than a translation model can read.

A sentence ends

- behind `.`, `!`, `?` or `…`, and the quotation marks and brackets that close with it, where white space follows and
  the next letter is no lower-case one; but not behind a single letter or a number of one or two digits with a full stop
  (`J. S. Bach`, `am 3. Oktober`);
- behind a full stop that needs no space: Chinese and Japanese `。！？｡`, Devanagari `।॥`, Arabic and Urdu `؟۔`,
  Armenian `։`, Ethiopic `።፧`, Burmese `။`, Khmer `។៕`;
- at the end of a line.

An abbreviation such as `Dr.` before a name is taken for an end. Nothing is lost by it, as the pieces are joined again.
"""

# ruff: noqa: RUF001, RUF002 (letters of other scripts look like Latin ones)

import re
from collections.abc import Sequence

_CLOSING = r"[\"'”’»)\]】」』）]*"
_END = re.compile(rf"(?P<mark>[.!?…]+{_CLOSING}(?=\s)|[。！？｡।॥؟۔։።፧။។៕]+{_CLOSING}|(?=\n))(?P<gap>\s*)")
_NUMBER_OR_LETTER = re.compile(r"(?:^|[\W_])(?:[^\W\d_]|\d\d?)$")
_NO_SPACE = "。！？｡」』）】"
"""Behind these a sentence follows without a space."""


def split_sentences(text: str) -> list[tuple[str, str]]:
    """The sentences of a text, each with the white space behind it; together they are the text, but for its ends."""
    text = text.strip()
    sentences, start = [], 0
    for end in _END.finditer(text):
        if end.start() > start and not _goes_on(text, end):
            sentences.append((text[start : end.end("mark")], end["gap"]))
            start = end.end()
    return [*sentences, (text[start:], "")] if start < len(text) else sentences


def _goes_on(text: str, end: re.Match[str]) -> bool:
    """Whether the sentence goes on behind what looks like its end."""
    if "\n" in end["gap"] or end.end() == len(text):
        return False
    is_short = end["mark"] == "." and _NUMBER_OR_LETTER.search(text, max(0, end.start() - 3), end.start())
    return bool(is_short) or text[end.end()].islower()


def join_sentences(sentences: Sequence[str], gaps: Sequence[str]) -> str:
    """One text of translated sentences.

    Line breaks are those of the source. Otherwise a space stands between two sentences, but none behind the full stops
    of Chinese and Japanese, whatever the source has there.

    Args:
        sentences: one at least.
        gaps: what stood behind each of them in the source.
    """
    text = sentences[0]
    for gap, sentence in zip(gaps, sentences[1:], strict=False):
        if "\n" not in gap:
            gap = "" if text.endswith(tuple(_NO_SPACE)) else " "
        text += gap + sentence
    return text
