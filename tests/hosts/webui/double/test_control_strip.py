"""The strip of a ControlNet unit's images: what the panel reads for it at each change of any setting."""

from __future__ import annotations

import os

import pytest
from support.source_files import shades

from lib_animatediff.request.control.hosted import HostedControl, UnitImage


@pytest.mark.parametrize("name", ["in", "in/*.png"], ids=["folder", "pattern"])
def test_images_are_counted_once_until_their_folder_changes(webui, monkeypatch, tmp_path, name):
    strip = webui.module("clip.control.strip")
    folder = tmp_path / "in"
    folder.mkdir()
    for number, image in enumerate(shades(3)):
        image.save(folder / f"{number}.png")
    counted = []
    count = strip.count_of
    monkeypatch.setattr(strip, "count_of", lambda *args: counted.append(args) or count(*args))
    hosted = HostedControl((UnitImage(str(tmp_path / name), 0),), fill="stretch")
    first = strip.control_strips(lambda: hosted, 4)
    assert [f"data-image='{number}'" in first for number in range(4)] == [True, True, True, False]
    assert strip.control_strips(lambda: hosted, 4) == first
    assert len(counted) == 1
    shades(4)[3].save(folder / "3.png")
    os.utime(folder, (1, 1))
    assert "data-image='3'" in strip.control_strips(lambda: hosted, 4)
