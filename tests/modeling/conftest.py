"""Fixtures shared by the tests of the models."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Uses one thread. More threads do not speed up tiny tensors, and they change the order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
