"""Every relative link and anchor of the documentation leads somewhere, and the navigation names every page."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_pages import DOCS, PAGES, anchors, links, name_of
from project import ROOT

ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//")


def dead(page: Path) -> list[str]:
    """The links of a page that lead nowhere, each with its line."""
    found = []
    for line, target in links(page.read_text(encoding="utf-8")):
        if ELSEWHERE.match(target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not file.exists():
            found.append(f"{line}: {target}: there is no {path}")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            found.append(f"{line}: {target}: there is no heading #{anchor}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_link_is_dead(page):
    assert dead(page) == []


def test_dead_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A `title`, twice\n\n## A title twice\n")
    page.write_text(
        "# Here\n[a](other.md) [b](gone.md) `[c](gone.md)`\n[`d`](other.md#a-title-twice-1) [e](#there) [f](#here)\n"
        "[g](https://example.org)\n```sh\n[h](gone.md)\n```\n[i]: gone.md\n"
    )
    assert [fault.split(":")[:2] for fault in dead(page)] == [["2", " gone.md"], ["3", " #there"], ["8", " gone.md"]]


# The navigation


def named_pages(entry: Any) -> list[str]:
    """The files below an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    children = entry if isinstance(entry, list) else entry.values()
    return [name for child in children for name in named_pages(child)]


def test_the_navigation_names_every_page_once():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = named_pages(settings["nav"])
    assert len(set(named)) == len(named)
    assert {name_of(page) for page in DOCS} <= set(named)
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_site_has_what_its_pages_link_to():
    """`make docs` copies these, and a link to anything else would be dead on the site."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    copied = set(re.search(r"^DOCS_INPUTS := (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    targets = {
        (page.parent / target.partition("#")[0]).resolve().relative_to(ROOT).parts[0]
        for page in PAGES
        for _, target in links(page.read_text(encoding="utf-8"))
        if not ELSEWHERE.match(target) and target.partition("#")[0]
    }
    assert targets <= copied
