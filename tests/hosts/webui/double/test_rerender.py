"""A finished clip of which some frames are rendered again in the WebUI: all others keep their pixels."""

from __future__ import annotations

import pytest
from support.source_files import shades
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.images_in import TABS

from lib_animatediff.video import Recipe, read_clip, read_recipe, write_clip

INFOTEXT = """a cat, walking
Steps: 7, Sampler: DDIM, CFG scale: 3.5, Seed: 40, Size: 16x16, AnimateDiff: "frames: 5, fps: 5, {more}"
"""
AGAIN = {**CLIP, "rerender_clip": "in/earlier.png", "rerender_frames": "1-2", "format": ["APNG"]}


@pytest.fixture
def earlier(webui, uploads):
    return written(webui)


def written(webui, more="closed_loop: N"):
    folder = webui.outputs.parent / "in"
    folder.mkdir(exist_ok=True)
    pictures = shades(5, (SIDE, SIDE))
    write_clip(folder / "earlier.png", pictures, fps=5, recipe=Recipe(INFOTEXT.format(more=more)))
    return pictures


def made(webui):
    (path,) = webui.outputs.rglob("*.png")
    return path, [frame.image.convert("RGB") for frame in read_clip(path)]


@TABS
@pytest.mark.parametrize("strength", [1, pytest.param(0.5, marks=pytest.mark.matrix)])
def test_other_frames_keep_their_pixels(webui, earlier, fields, strength):
    webui.paint({**AGAIN, "rerender_strength": strength}, **fields)
    path, frames = made(webui)
    same = [one.tobytes() == other.convert("RGB").tobytes() for one, other in zip(frames, earlier, strict=True)]
    assert same == [True, False, False, True, True]
    assert read_recipe(path).data["pins"]["keeps_pixels"]
    assert 'Pinned frames: "0: earlier.png' not in read_recipe(path).infotext
    assert "rerender_clip: in/earlier.png" in read_recipe(path).infotext
    assert shared.samplings[-1].given is not None


def test_the_request_takes_over_size_and_number_of_frames(webui, earlier):
    p = webui.request(AGAIN, width=2 * SIDE, height=2 * SIDE)
    processed = webui.double.process_images(p)
    (facts,) = processed.extra_generation_params["AnimateDiff clips"]
    assert (facts["frames"], facts["size"]) == (5, [SIDE, SIDE])


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"rerender_frames": ""}, "AD-S30"),
        ({"rerender_frames": "4-5"}, "AD-S31"),
        ({"image": "in/earlier.png"}, "AD-S37"),
        ({"rerender_clip": "/etc/passwd"}, "AD-W32"),
    ],
)
def test_what_does_not_fit_is_refused(webui, earlier, settings, code):
    with pytest.raises(Exception, match=code):
        webui.paint({**AGAIN, **settings})


def test_a_clip_with_other_frames_than_the_rendered_ones_is_refused(webui, uploads):
    written(webui, "reverse: True")
    with pytest.raises(Exception, match="AD-S35"):
        webui.paint(AGAIN)
