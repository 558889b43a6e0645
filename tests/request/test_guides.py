"""What images at frames are used for where some frames of a finished clip are rendered again: the others stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file
from support.image_encoder import i2v_state
from support.pia import pia_state
from support.sparse_ctrl import random_state

from lib_animatediff import ClipError, Pin
from lib_animatediff.request.control.choosing import GuideFiles, guide_notes
from lib_animatediff.request.control.guides import AUTO, BOTH, I2V, PIA, SPARSE_CTRL, AskedGuides, choose_guides
from lib_animatediff.request.control.i2v import i2v_unit
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.pins import PinnedFrames

STAY = PinnedFrames(tuple(Pin(frame, Path("clip.gif"), frame) for frame in (0, 1, 4)), keeps_pixels=True)


@pytest.mark.parametrize("method", [AUTO, SPARSE_CTRL])
def test_an_encoder_carries_the_frames_that_stay_and_they_stay_pinned(tmp_path, method):
    path = tmp_path / "rgb.safetensors"
    save_file(random_state("rgb"), path)
    guides = choose_guides(AskedGuides((path,), method=method), STAY, 5)
    assert (guides.method, guides.pins) == (BOTH, STAY)
    assert [unit.keys for unit in guides.units] == [STAY.pins]
    (note,) = guide_notes(parse_settings({"image_method": method}), guides, STAY, GuideFiles(_none, _none))
    assert str(note) == "image_method is both: the frames that stay are pinned, and rgb.safetensors carries them on."


def _none(name: str) -> tuple[Path, str]:
    raise AssertionError(name)


def test_a_model_with_one_image_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(pia_state(), path)
    with pytest.raises(ClipError, match=r"model\.safetensors makes a clip from one image") as moved:
        choose_guides(AskedGuides(pia=path, method=PIA), STAY, 5)
    save_file(i2v_state(), path)
    with pytest.raises(ClipError, match=r"model\.safetensors makes a clip from one image") as begun:
        i2v_unit(path, STAY, I2V, (), "1", 1.0)
    assert moved.value.code == begun.value.code == "AD-Q66"
