"""Fixtures shared by the tests of the models."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread: tiny tensors gain nothing from more, and sums are taken in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
