"""Motion modules of small widths, in and out of files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.motion_files import PICKLES, TABLE_LENGTHS, random_motion_state
from torch import Tensor

from motion_module import MotionFileError, MotionModule, load_motion_module

WIDTHS = (32, 64, 32, 32)
KINDS = tuple(TABLE_LENGTHS)
FORMATS = {"safetensors": save_file, **PICKLES}

_made = functools.cache(functools.partial(random_motion_state, widths=WIDTHS))


def official(kind: str = "v3", *, tables: bool = True) -> dict[str, Tensor]:
    """The state dict under official names."""
    return dict(_made(kind, tables=tables))


def assert_holds(motion: MotionModule, state: dict[str, Tensor]) -> None:
    """It has the weights of the state dict to the last bit, and no others."""
    loaded = motion.state_dict()
    assert set(loaded) == {key for key in state if not key.endswith("pos_encoder.pe")}
    for key, tensor in loaded.items():
        assert tensor.dtype == state[key].dtype, key
        assert torch.equal(tensor, state[key]), key


def refusal(path: Path, **how: Any) -> str:
    """The one line that loading answers."""
    with pytest.raises(MotionFileError) as caught:
        load_motion_module(path, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message
