"""Tests of a graphics card. Without one they are skipped, and say so; `pytest -m card` runs them alone."""

from __future__ import annotations

import pytest
import torch

from lib_animatediff.hosts.diffusers.pipeline import pick_device


@pytest.fixture(scope="session")
def card() -> torch.device:
    """CUDA's first card, or Apple's."""
    found = pick_device()
    if found == "cpu":
        pytest.skip("needs a graphics card")
    return torch.device(found)


@pytest.fixture
def cuda(card):
    """What only CUDA can be asked."""
    if card.type != "cuda":
        pytest.skip("needs CUDA")
    return card
