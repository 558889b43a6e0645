"""What all tests of the trainer need."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch


def pytest_collection_modifyitems(items):
    """Without the extra "train" there is no trainer to test."""
    missing = [name for name in ("accelerate", "peft", "av", "tensorboard") if find_spec(name) is None]
    for item in items:
        if missing and "training" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)} (extra train)"))


@pytest.fixture(autouse=True)
def _one_thread():
    """More are slower at these sizes, and sums are in one order."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)
