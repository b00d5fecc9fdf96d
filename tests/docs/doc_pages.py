"""The pages of the documentation, and what stands in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from project import ROOT

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [page for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS) if page.exists()]

_FENCE = re.compile(r"^(```+|~~~+)[ \t]*(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n\Z", re.DOTALL)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: what follows the fence.
        text: without the fences.
        line: number of its first line in the page.
        reason: why it is not run, from a comment right above it; `None` if it is to run.
    """

    language: str
    text: str
    line: int
    reason: str | None


def name_of(page: Path) -> str:
    """Its path in the checkout; the id of a test."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, *languages: str) -> list[Block]:
    """The fenced blocks of those languages, in their order."""
    found = []
    for fence in _FENCE.finditer(text):
        reason = _NOT_RUN.search(text[: fence.start()])
        line = text[: fence.start(3)].count("\n") + 1
        found.append(Block(fence[2], fence[3], line, reason[1] if reason else None))
    return [block for block in found if block.language in languages]


def prose(text: str) -> str:
    """A page without its fenced blocks and comments, lines kept."""
    for pattern in (_FENCE, re.compile(r"<!--.*?-->", re.DOTALL)):
        text = pattern.sub(lambda found: "\n" * found[0].count("\n"), text)
    return text


def code_spans(text: str) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(text))


def links(text: str) -> Iterator[tuple[int, str]]:
    """Line and target of each link and picture."""
    for number, line in enumerate(prose(text).splitlines(), start=1):
        plain = re.sub(r"(?<!`)`[^`]+`(?!`)", "code", line)  # a link's text may be code, code holds no link
        for target in re.findall(r"\]\(([^()\s]+(?:\([^()\s]*\))?)\)", plain):
            yield number, target
        definition = re.match(r"\[[^\]]+\]: (\S+)", plain)
        if definition:
            yield number, definition[1]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} (.+?)[ #]*$", prose(text), flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        count = found.setdefault(slug, 0)
        found[slug] += 1
        names.add(f"{slug}-{count}" if count else slug)
    return names | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
