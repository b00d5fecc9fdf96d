"""What whoever publishes a model says of it."""

import pytest

from vanilla_recipes.errors import UserError
from vanilla_recipes.publishing.details import CardDetails, read_details


def test_details_are_read(tmp_path):
    file = tmp_path / "card.yaml"
    file.write_text("license: mit\nlanguage: [en, de]\nterms: CC BY 4.0\n")
    assert read_details(file) == CardDetails(license="mit", language=["en", "de"], terms="CC BY 4.0")
    assert read_details(None) == CardDetails()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("licence: mit", "there is no licence; did you mean license?"),
        ("colour: red", "there is no colour; the names are summary, license, language"),
        ("language: en", "language is 'en', but must be a list of texts, such as [en, de]"),
        ("license: [mit]", "license is ['mit'], but must be a text"),
        ("limits:", "limits is None, but must be a text"),
        ('license: "mit\\nfoo: bar"', "license has 'mit\\nfoo: bar', which the Hub does not take; give its identifier"),
        ("base_model: ../x y", "base_model has '../x y', but must be a Hub name"),
        ("datasets: [no/such/name]", "datasets has 'no/such/name', but must be a Hub name"),
        ("language: [English]", "language has 'English', which the Hub does not take; give a code of ISO 639"),
        ("- mit", "must hold `name: text` lines"),
        ("license: [", "cannot be read: while parsing"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, text, told):
    file = tmp_path / "card.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read_details(file)
    assert told in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
