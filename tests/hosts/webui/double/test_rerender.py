"""A finished clip of which some frames are rendered again in the WebUI: all others keep their pixels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from support.source_files import shades
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.guided import RGB, write_guides
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


def test_other_frames_keep_their_pixels_beside_an_encoder(webui, earlier):
    write_guides(webui.models_folder)
    webui.paint({**AGAIN, "sparse_ctrl": RGB})
    _, frames = made(webui)
    same = [one.tobytes() == other.convert("RGB").tobytes() for one, other in zip(frames, earlier, strict=True)]
    assert same == [True, False, False, True, True]


def test_the_request_takes_over_size_and_number_of_frames(webui, earlier):
    p = webui.request(AGAIN, width=2 * SIDE, height=2 * SIDE)
    processed = webui.double.process_images(p)
    (facts,) = processed.extra_generation_params["AnimateDiff clips"]
    assert (facts["frames"], facts["size"]) == (5, [SIDE, SIDE])


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({"hr_scale": 2}, ""),
        ({"hr_resize_x": 96}, ""),
        ({"hr_resize_y": 128}, ""),
        ({"hr_resize_x": 96, "hr_resize_y": 128}, ""),
        ({"hr_resize_y": 64}, "48x64"),
        ({"hr_scale": 1.5}, "72x96"),
    ],
    ids=str,
)
def test_a_note_says_if_hires_fix_scales_the_other_frames(webui, fields, made):
    notes = webui.module("clip.start.rerendered").rerender_notes
    p = SimpleNamespace(
        enable_hr=True, width=48, height=64, **{"hr_resize_x": 0, "hr_resize_y": 0, "hr_scale": 2, **fields}
    )
    found = notes(p, SimpleNamespace(size=(96, 128), path=Path("clip.gif")))
    assert [str(note) for note in found] == (
        [f"clip.gif has 96x128 pixels, and hires fix makes {made}, so that its other frames are scaled."]
        if made
        else []
    )


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
