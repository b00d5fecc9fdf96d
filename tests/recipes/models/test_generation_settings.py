"""Which settings of generate() are refused before it runs."""

import math

import pytest
from transformers import GenerationConfig

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.generation_settings import RULES, check_generation


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"num_beams": 2.5}, "num_beams is 2.5 in its generation settings, but must be a whole number of at least 1"),
        ({"num_beams": True}, "num_beams is True in"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0 in"),
        ({"min_length": -1}, "min_length is -1 in its generation settings, but must be a whole number of at least 0"),
        ({"length_penalty": math.nan}, "length_penalty is nan in its generation settings, but must be a finite number"),
        ({"temperature": 0}, "temperature is 0 in its generation settings, but must be a finite number greater than 0"),
        ({"top_p": 5.0}, "top_p is 5.0 in its generation settings, but must be a number above 0 and up to 1"),
        ({"do_sample": "false"}, "do_sample is 'false' in its generation settings, but must be true or false"),
        ({"early_stopping": []}, 'early_stopping is \\[\\] in its .*, but must be true, false or "never"'),
        ({"eos_token_id": "x"}, "eos_token_id is 'x' in its generation settings, but must be a token id or a list of"),
        ({"eos_token_id": []}, "eos_token_id is \\[\\] in"),
        ({"eos_token_id": [3, None]}, "eos_token_id is \\[3, None\\] in"),
        ({"pad_token_id": -1}, "pad_token_id is -1 in"),
        ({"eos_token_id": [3, 50]}, "eos_token_id is \\[3, 50\\] in its .*, but must be less than 50, the number"),
        ({"num_beams": 4, "bos_token_id": 50}, "bos_token_id is 50 in"),
    ],
)
def test_a_setting_is_refused(settings, text):
    with pytest.raises(UserError, match=f"^models/mine: {text}.*; mend generation_config.json$"):
        check_generation("models/mine", settings, num_tokens=50)


def test_settings_that_work():
    check_generation("models/mine", {}, num_tokens=50)
    check_generation("models/mine", {"eos_token_id": 70})  # the vocabulary is not known yet
    settings = {"num_beams": 4, "length_penalty": 1, "early_stopping": "never", "eos_token_id": [3, 49], "mine": "x"}
    check_generation("models/mine", settings | {"max_length": None}, num_tokens=50)
    check_generation("models/mine", GenerationConfig(num_beams=4, early_stopping=True).to_dict())


def test_every_rule_is_for_a_setting_of_transformers():
    assert RULES.keys() <= vars(GenerationConfig()).keys()
