"""Wrong files and wrong combinations of SparseCtrl and PIA: each is refused before sampling, in one sentence."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from safetensors.torch import save_file
from support.matrix import only_at
from support.sparse_ctrl import random_state
from support.unchanged import Portrait
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.guided import FRAMES, GUIDED, MOVED, RGB, SCRIBBLE, weights, write_guides
from support.webui_double.images_in import IMG2IMG
from support.wrong_guides import WRONG_FILES, write_wrong

UNLISTED = dict.fromkeys(("a motion LoRA", "a domain adapter"), "AD-W60")  # they are in a list of their own
DRAWN = {**CLIP, "frames": FRAMES, "sparse_ctrl": SCRIBBLE, "scribbles": "0: in/drawing.png"}
OTHER = "other_base.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A right file of each kind, and an encoder of another base."""
    folder = tmp_path_factory.mktemp("guides")
    write_guides(folder)
    save_file(random_state("rgb", widths=(64,) * 4), folder / OTHER)
    return folder


@pytest.fixture
def guided(webui, images, files):
    for file in files.iterdir():
        (webui.models_folder / file.name).symlink_to(file)
    folder = webui.outputs.parent / "in"
    Image.new("RGB", (64, 64)).save(folder / "drawing.png")
    Image.new("RGB", (64, 64), "white").save(folder / "page.png")
    (folder / "text.png").write_text("not an image")
    return webui


def check_refused(webui, checkpoint, clip, code, **fields):
    before = Portrait(checkpoint)
    shared.samplings.clear()
    with pytest.raises(Exception) as refused:  # noqa: PT011 - the WebUI's own kind of error
        webui.paint(clip, **fields)
    words = str(refused.value)
    assert refused.value.status_code == 422
    assert len(re.findall(r"\[AD-\w+\]", words)) == 1
    assert f"[{code}]" in words if code else words
    assert len(re.findall(r"[.?!] [A-Z]", words)) <= 2  # what is wrong, and what to do
    assert not shared.samplings
    before.assert_unchanged()
    return words


@pytest.mark.parametrize("what", only_at(WRONG_FILES, 0, 5, 11))
def test_a_wrong_file_is_refused_in_a_sentence_about_it(webui, checkpoint, images, what):
    path = write_wrong(webui.models_folder, what, weights("rgb"))
    code = UNLISTED.get(what, WRONG_FILES[what][1])
    assert path.name in check_refused(webui, checkpoint, {**GUIDED, "sparse_ctrl": path.name}, code)


WRONG = {
    "a missing encoder": ({**GUIDED, "sparse_ctrl": "none.safetensors"}, "AD-W61"),
    "an encoder elsewhere": ({**GUIDED, "sparse_ctrl": "/etc/passwd"}, "AD-W61"),
    "two of one kind": ({**GUIDED, "sparse_ctrl": f"{RGB}, {OTHER}"}, "AD-Q31"),
    "the same encoder twice": ({**GUIDED, "sparse_ctrl": f"{RGB}, {RGB}"}, "AD-Q31"),
    "images for none": ({**CLIP, "sparse_ctrl": RGB}, "AD-Q33"),
    "no drawing": ({**GUIDED, "sparse_ctrl": SCRIBBLE}, "AD-Q32"),
    "a drawing for images": ({**GUIDED, "scribbles": "0: in/drawing.png"}, "AD-Q34"),
    "a drawing without a frame": ({**DRAWN, "scribbles": "in/drawing.png"}, "AD-S20"),
    "a missing drawing": ({**DRAWN, "scribbles": "0: in/none.png"}, "AD-S22"),
    "a drawing elsewhere": ({**DRAWN, "scribbles": "0: /etc/passwd"}, "AD-W32"),
    "a drawing that is none": ({**DRAWN, "scribbles": "0: in/text.png"}, None),
    "a colour image": ({**DRAWN, "scribbles": "0: in/a.png"}, "AD-Q24"),
    "black on white": ({**DRAWN, "scribbles": "0: in/page.png"}, "AD-Q25"),
    "frame 40 of 4": ({**GUIDED, "key_images": "40: in/a.png"}, "AD-C75"),
    "drawing 40 of 4": ({**DRAWN, "scribbles": "40: in/drawing.png"}, "AD-H17"),
    "drawing -9 of 4": ({**DRAWN, "scribbles": "-9: in/drawing.png"}, "AD-S23"),
    "two drawings at a frame": ({**DRAWN, "scribbles": "0: in/drawing.png, 0: in/drawing.png"}, "AD-H15"),
    "two images at a frame": ({**GUIDED, "key_images": "0: in/b.png"}, "AD-C71"),
    "a strength of 3": ({**GUIDED, "sparse_strength": "3"}, "AD-C28"),
    "a strength for frame 9": ({**GUIDED, "sparse_strength": "0: 1, 9: 0.5"}, "AD-C22"),
    "more strengths than frames": ({**GUIDED, "sparse_strength": "1, 1, 1, 1, 1"}, "AD-C20"),
    "an end of 0": ({**GUIDED, "sparse_end": 0}, "AD-H12"),
    "a start behind the end": ({**GUIDED, "sparse_start": 0.8, "sparse_end": 0.5}, "AD-H12"),
    "another base": ({**GUIDED, "sparse_ctrl": OTHER}, "AD-Q09"),
    "a method without its file": ({**GUIDED, "sparse_ctrl": "", "image_method": "sparse-ctrl"}, "AD-Q36"),
    "both without a file": ({**GUIDED, "sparse_ctrl": "", "image_method": "both"}, "AD-Q36"),
    "PIA without its file": ({**GUIDED, "sparse_ctrl": "", "image_method": "pia"}, "AD-Q64"),
    "a file without its method": ({**GUIDED, "image_method": "pins"}, "AD-Q37"),
    "Text2Video-Zero": ({**GUIDED, "model": "Text2Video-Zero"}, "AD-C14"),
    "PIA as an encoder": ({**GUIDED, "sparse_ctrl": "pia.safetensors"}, "AD-Q10"),
    "an encoder as a motion module": ({**CLIP, "model": RGB}, "AD-F08"),
    "PIA without an image": ({**MOVED, "image": ""}, "AD-Q62"),
    "PIA with two images": ({**MOVED, "last_image": "in/b.png"}, "AD-Q62"),
    "PIA with an encoder for images": ({**MOVED, "sparse_ctrl": RGB}, "AD-Q65"),
    "PIA and pins": ({**MOVED, "image_method": "pins"}, "AD-Q65"),
    "a motion of PIA above 1": ({**MOVED, "pia_motion": "1.5"}, "AD-C28"),
    "an unknown motion of PIA": ({**MOVED, "pia_motion": "huge"}, "AD-C27"),
    "two names of one module": ({**MOVED, "pia": "mm.safetensors"}, "AD-C02"),
}


@pytest.mark.parametrize("what", only_at(WRONG, 0, 2, 11, 13, 23, 31))
def test_a_wrong_combination_is_refused_in_a_sentence(guided, checkpoint, what):
    clip, code = WRONG[what]
    check_refused(guided, checkpoint, clip, code, **(IMG2IMG if len(what) % 2 else {}))
    assert len(WRONG) >= 20


def test_an_odd_size_has_images_of_the_size_that_is_rendered(guided):
    made = guided.paint({**GUIDED, "format": ["Frame"]}, width=SIDE + 3, height=SIDE + 5)
    assert len(made.images) >= FRAMES
