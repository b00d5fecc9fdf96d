"""Rows that are longer than a table of learned positions."""

import pytest

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.positions import check_positions
from vanilla_transformers import VanillaEncoderConfig

LIMITS = {"data.short": 16, "data.long": 17}


def config(kind: str) -> VanillaEncoderConfig:
    return VanillaEncoderConfig(max_position_embeddings=16, position_embedding_type=kind)


@pytest.mark.parametrize(
    ("is_saved", "way_out"), [(True, "lower it"), (False, "lower it, or raise model.max_position_embeddings")]
)
def test_a_bound_beyond_the_table_is_named(is_saved, way_out):
    with pytest.raises(UserError) as caught:
        check_positions(config("learned"), LIMITS, is_saved)
    assert str(caught.value) == f"data.long=17: the model has learned positions for 16 tokens; {way_out}"


def test_other_positions_have_no_end():
    check_positions(config("sinusoidal"), LIMITS, is_saved=False)
