"""Marks all tests of this folder as `fast`: they test the `fast/` package, which `make plain` turns off."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.fast)
