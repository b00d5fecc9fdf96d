"""The fingerprint of the rows."""

import numpy as np
import pytest

from vanilla_recipes.engine.task import fingerprint_rows

VOCABULARY = {"<pad>": 0, "a": 1, "b": 2}
ROWS = [[1, 2], [2]]


def fingerprint(rows=ROWS, vocabulary=VOCABULARY, validation=((2, 1),)) -> str:
    training, scored = ((np.array([len(row) for row in side]), side) for side in (rows, validation))
    return fingerprint_rows(vocabulary, training, scored)


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": [[1, 2], [1]]},
        {"rows": [[1], [2, 2]]},
        {"rows": [[2], [1, 2]]},
        {"rows": [[1, 2]]},
        {"validation": [[1, 2]]},
        {"rows": [[1, 2]], "validation": [[2], [2, 1]]},
        {"vocabulary": {"<pad>": 0, "a": 2, "b": 1}},
        {"vocabulary": {"<pad>": 0, "a": 1, "c": 2}},
    ],
)
def test_fingerprint_changes_with_rows_and_vocabulary(changed):
    assert fingerprint(**changed) != fingerprint()


def test_fingerprint_does_not_depend_on_the_order_of_the_vocabulary():
    assert fingerprint(vocabulary=dict(reversed(VOCABULARY.items()))) == fingerprint()
