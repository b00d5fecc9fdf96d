"""The API reference names what there is, all of it, and the defaults that the configurations have."""

import pydoc
import re
from pathlib import Path

import pytest
from doc_pages import name_of
from project import ROOT

import vanilla_transformers
from vanilla_transformers import VanillaDecoderConfig, VanillaEncoderConfig, VanillaSeq2SeqConfig

REFERENCE = sorted(set((ROOT / "docs" / "reference").glob("*.md")) - {ROOT / "docs" / "reference" / "index.md"})
FAMILIES = (VanillaSeq2SeqConfig, VanillaEncoderConfig, VanillaDecoderConfig)


def described(page: Path) -> list[str]:
    return re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("page", REFERENCE, ids=name_of)
def test_the_reference_names_what_there_is(page):
    names = described(page)
    assert names
    assert [name for name in names if getattr(pydoc.locate(name), "__doc__", None) is None] == []


def test_the_reference_has_every_public_name():
    there = {name.rsplit(".", 1)[1] for page in REFERENCE for name in described(page)}
    assert set(vanilla_transformers.__all__) <= there


def default(family: type, name: str) -> str:
    """A cell of the table of defaults."""
    value = getattr(family, name, "") if name in own_fields(family) else ""
    return "" if value == "" else f"`{value!r}`".replace("'", '"')


def own_fields(family: type) -> list[str]:
    """The fields that this package gives to a configuration, in their order."""
    classes = [base for base in reversed(family.__mro__) if base.__module__.startswith("vanilla_transformers")]
    fields = (name for base in classes for name, kind in base.__annotations__.items() if "ClassVar" not in str(kind))
    return [name for name in dict.fromkeys(fields) if name != "is_encoder_decoder"]


def test_the_table_of_defaults_is_that_of_the_configurations():
    text = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    _, _, below = text.partition("| field | ")
    rows = [line.strip("|").split(" | ") for line in below.splitlines()[2:] if line.startswith("| `")]
    written = [[cell.strip() for cell in row] for row in rows]
    names = dict.fromkeys(name for family in FAMILIES for name in own_fields(family))
    assert written == [[f"`{name}`", *(default(family, name) for family in FAMILIES)] for name in names]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_of_auto_classes_is_that_of_the_families(family):
    text = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{family.model_type}` \|.*\| (.*) \|$", text, flags=re.MULTILINE)
    assert row.split(", ") == [name for name in family.family_auto_map if name != "AutoConfig"]
