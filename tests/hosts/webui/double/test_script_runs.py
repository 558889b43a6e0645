"""Selectable scripts of the WebUI, which run a request several times and build the reply themselves."""

from __future__ import annotations

import copy
import io
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from PIL import Image
from support.webui_double import double
from support.webui_double.double import CLIP, Processed, create_infotext, shared

from motion_module import AnimateDiffError

CLIPS = "AnimateDiff clips"


def sent(image):
    """What the WebUI's API makes of an image."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=None, quality=80)
    return buffer.getvalue()


@pytest.fixture
def scripted(webui):
    """A new request of the API with the first selectable script, which has this title."""

    def request(title="Prompts from file or textbox", clip=CLIP, **fields):
        p = webui.request(clip, is_api=True, **fields)
        p.scripts.selectable_scripts = [SimpleNamespace(title=lambda: title)]
        p.script_args = (1, *p.script_args[1:])
        return p

    return request


def prompts_from_file(p, prompts):
    """As the WebUI's script: runs on copies, and a reply about the object that they were copied from."""
    images, texts = [], []
    for prompt in prompts:
        copied = copy.copy(p)
        copied.prompt = prompt
        done = double.process_images(copied)
        images += done.images
        texts += done.infotexts
    p.all_prompts = p.all_negative_prompts = p.all_seeds = p.all_subseeds = [0]
    return Processed(p, images, texts, 0)


def test_a_clip_for_each_prompt_is_in_the_reply(webui, scripted):
    reply = prompts_from_file(scripted(), ["a cat", "a dog"])
    files = sorted(webui.outputs.rglob("*.gif"))
    assert [sent(image) for image in reply.images] == [file.read_bytes() for file in files]
    told = json.loads(json.dumps(reply.extra_generation_params, default=lambda _: None))[CLIPS]
    assert [clip["files"] for clip in told] == [[str(file)] for file in files]
    assert len(prompts_from_file(scripted(), ["a cat"]).extra_generation_params[CLIPS]) == 1  # the next request's own


def test_every_file_of_a_clip_is_in_the_reply(scripted):
    reply = prompts_from_file(scripted(clip={**CLIP, "format": ["GIF", "MP4", "TXT"]}), ["a cat"])
    assert [sent(image)[:6] for image in reply.images] == [b"GIF89a", sent(reply.images[1])[:6]]
    assert sent(reply.images[1])[4:8] == b"ftyp"


def test_scripts_can_use_and_save_the_first_frame(scripted, tmp_path):
    (image,) = prompts_from_file(scripted(), ["a cat"]).images
    image.save(tmp_path / "saved.png", format="PNG")
    with Image.open(tmp_path / "saved.png") as saved:
        assert saved.tobytes() == image.tobytes()
    assert type(image.convert("L")) is Image.Image


def test_a_plots_reply_about_its_first_cell_names_the_clips_of_all(scripted):
    p, cells = scripted(title="X/Y/Z plot"), []
    for prompt in ("a cat", "a dog", "a bird"):
        cell = copy.copy(p)
        cell.prompt, cell.extra_generation_params = prompt, dict(p.extra_generation_params)
        cells.append(double.process_images(cell))
    assert len(cells[0].extra_generation_params[CLIPS]) == 3


def test_clips_of_earlier_prompts_are_in_no_infotext(scripted):
    p = scripted()
    reply = prompts_from_file(p, ["a cat", "a dog"])
    assert not [text for text in reply.infotexts if CLIPS in text]
    p.seeds, p.prompts = [1], ["a cat"]
    assert callable(p.extra_generation_params[CLIPS])
    assert CLIPS not in create_infotext(p, 0)


@pytest.mark.parametrize("title", ["Loopback", "SD upscale", "Ultimate SD upscale", "Outpainting mk2"])
def test_scripts_on_images_are_refused(scripted, title):
    with pytest.raises(AnimateDiffError, match=title.lower()):
        double.process_images(scripted(title=title))
    assert not shared.samplings


@pytest.mark.parametrize(("formats", "fits"), [(["MP4"], True), (["GIF"], False), (["MP4", "GIF"], False)])
def test_sixty_frames_a_second_are_for_videos(webui, formats, fits):
    refused = pytest.raises(AnimateDiffError, match="50 frames per second at most")
    with nullcontext() if fits else refused:
        assert webui.paint({**CLIP, "fps": 60, "format": formats}, is_api=True).images
