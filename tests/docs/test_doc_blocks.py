"""Every block of Python in the documentation runs as it stands, from top to bottom of its page."""

import shutil

import pytest
from doc_pages import DOCS, blocks, name_of
from project import ROOT

RUNS = {
    "translation-toy": "Seq2SeqForConditionalGeneration",
    "classification-toy": "EncoderForSequenceClassification",
    "generation-toy": "DecoderForCausalLM",
    "masked_lm-toy": "EncoderForMaskedLM",
}
"""The runs that pages speak of, with the tiny models that stand in their place."""

WITH_PYTHON = [page for page in DOCS if blocks(page.read_text(encoding="utf-8"), "python")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, saved_models):
    """A folder in which the toy recipes seem to have run."""
    folder = tmp_path_factory.mktemp("docs")
    for run, name in RUNS.items():
        shutil.copytree(saved_models[name], folder / "runs" / run / "best")
    return folder


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_every_block_runs(page, checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    namespace = {"__name__": "page"}
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        code = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
        compiled = compile(code, str(page), "exec")
        if block.reason is None:
            exec(compiled, namespace)


def test_a_block_that_does_not_run_has_a_reason():
    reasons = {
        f"{name_of(page)}:{block.line}": block.reason
        for page in WITH_PYTHON
        for block in blocks(page.read_text(encoding="utf-8"), "python")
        if block.reason is not None
    }
    assert [place for place, reason in reasons.items() if len(reason.split()) < 3] == []
    assert not any(place.startswith("docs/lesson.md") for place in reasons)


def test_the_lesson_is_short_and_asserts():
    lesson = blocks((ROOT / "docs" / "lesson.md").read_text(encoding="utf-8"), "python")
    assert len(lesson) > 15
    assert sum("assert " in block.text for block in lesson) >= len(lesson) - 1  # all but the imports
    assert max(block.text.count("\n") for block in lesson) <= 35


def test_marks_and_lines_are_found():
    text = "# Title\n\n<!-- not run: needs a GPU -->\n```python\na = 1\n```\n\n```python\nb = 2\n```\n```sh\nls\n```\n"
    first, second = blocks(text, "python")
    assert (first.text, first.line, first.reason) == ("a = 1\n", 5, "needs a GPU")
    assert (second.line, second.reason) == (9, None)
