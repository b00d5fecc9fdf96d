"""The fingerprint of the training rows."""

import numpy as np
import pytest

from vanilla_transformers.recipes.engine.task import fingerprint_rows

VOCABULARY = {"<pad>": 0, "a": 1, "b": 2}
ROWS = [[1, 2], [2]]


def fingerprint(rows=ROWS, vocabulary=VOCABULARY) -> str:
    return fingerprint_rows(vocabulary, np.array([len(row) for row in rows]), rows)


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": [[1, 2], [1]]},
        {"rows": [[1], [2, 2]]},
        {"rows": [[2], [1, 2]]},
        {"rows": [[1, 2]]},
        {"vocabulary": {"<pad>": 0, "a": 2, "b": 1}},
        {"vocabulary": {"<pad>": 0, "a": 1, "c": 2}},
    ],
)
def test_fingerprint_changes_with_rows_and_vocabulary(changed):
    assert fingerprint(**changed) != fingerprint()


def test_fingerprint_does_not_depend_on_the_order_of_the_vocabulary():
    assert fingerprint(vocabulary=dict(reversed(VOCABULARY.items()))) == fingerprint()
