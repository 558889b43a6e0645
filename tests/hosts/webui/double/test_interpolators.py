"""Files of RIFE in the WebUI: those in one folder, by name."""

from __future__ import annotations

import pytest
from safetensors.torch import save_file

from lib_animatediff.video.rife import Rife
from motion_module import AnimateDiffError


@pytest.fixture
def folder(webui):
    folder = webui.models_folder.parent / "RIFE"
    folder.mkdir()
    save_file(Rife().state_dict(), folder / "mine.safetensors")
    save_file(Rife().state_dict(), folder.parent / "outside.safetensors")
    return folder


def test_a_file_is_found_by_its_name_in_its_folder_alone(webui, folder):
    find = webui.module("catalog.interpolators").find_rife
    assert find("mine.safetensors") == folder / "mine.safetensors"
    outside = folder.parent / "outside.safetensors"
    for name in ("other.safetensors", "../outside.safetensors", str(outside), "", ".."):
        with pytest.raises(AnimateDiffError, match="There is no RIFE file") as caught:
            find(name)
        assert caught.value.code == "AD-V92"
