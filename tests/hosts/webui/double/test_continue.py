"""A clip that continues an earlier one: its last frames are pinned, and a client's request takes over its recipe."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support.matrix import every_once
from support.source_files import shades
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.images_in import IMG2IMG, TABS, few_steps, frames_of, sent  # noqa: F401 - one is a fixture
from support.webui_double.sampling import latent_of

from lib_animatediff.video import Recipe, read_recipe, write_clip
from lib_animatediff.video.hashing import file_hash

FRAMES = 6
NEXT = {**CLIP, "frames": FRAMES, "continue_clip": "in/earlier.png", "keep_frames": 2}
INFOTEXT = """a cat, walking
0: in a garden
Negative prompt: a dog
Steps: 7, Sampler: DDIM, Schedule type: Karras, CFG scale: 3.5, Seed: 40, Size: 16x16, Model: small, AnimateDiff: \
"model: mm.safetensors, frames: 5, fps: 5, closed_loop: N, context_length: 8, scale: 1.2", Version: v1.10.1"""
EXACT = {"rtol": 0, "atol": 1e-6}
pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture
def earlier(webui, uploads):
    """A clip of five frames in the WebUI's folder, with its recipe."""
    return written(webui, INFOTEXT)


def written(webui, infotext):
    folder = webui.outputs.parent / "in"
    folder.mkdir(exist_ok=True)
    pictures = shades(5, (SIDE, SIDE))
    write_clip(folder / "earlier.png", pictures, fps=5, recipe=Recipe(infotext))
    return pictures


def asked_by_client(webui, clip, *sent, **fields):
    """The request of a client that sends these fields; the WebUI fills in the others."""
    txt2imgreq = SimpleNamespace(save_images=True, __fields_set__={*sent, *fields})
    p = webui.request(clip, is_api=bool(txt2imgreq), **fields)
    before = dict(vars(p))
    processed = webui.double.process_images(p)
    return before, p, processed


@TABS
def test_its_last_frames_are_the_first_ones(webui, earlier, fields):
    made = frames_of(webui, NEXT, **fields)
    for frame, picture in ((0, earlier[3]), (1, earlier[4])):
        torch.testing.assert_close(made[frame], torch.full((4, SIDE, SIDE), latent_of(picture)), **EXACT)
    plain = frames_of(webui, {**CLIP, "frames": FRAMES}, **fields)
    assert not torch.allclose(made[2], plain[2], atol=1e-3)
    assert not torch.allclose(made[2], made[1], atol=1e-2)


def test_the_request_of_a_client_takes_over_what_it_does_not_send(webui, earlier):
    clip = {"continue_clip": "in/earlier.png"}
    _, p, processed = asked_by_client(webui, {**clip, "context_length": 4}, steps=9)
    assert (p.steps, p.sampler_name, p.scheduler, p.cfg_scale, p.seed) == (9, "DDIM", "Karras", 3.5, 45)
    assert (p.width, p.height) == (SIDE, SIDE)
    text = processed.infotexts[0]
    for words in ("in a garden", "frames: 5", "fps: 5", "context_length: 4", "scale: 1.2", "Seed: 45"):
        assert words in text
    assert p.negative_prompt == "a dog"
    assert "prompt" in processed.comments
    assert "from earlier.png." in processed.comments
    _, p, _ = asked_by_client(webui, {**clip, "frames": FRAMES}, prompt="a hat", seed=3, sampler_name="Euler")
    assert (p.seed, p.sampler_name) == (3, "Euler")
    assert shared.samplings[-1].rows == FRAMES


def test_the_page_sends_all_and_takes_over_the_frames_only(webui, earlier):
    p = webui.request(NEXT, seed=3, steps=20)
    processed = webui.double.process_images(p)
    assert (p.seed, p.steps, p.sampler_name) == (3, 20, "Euler")
    assert "a garden" not in processed.infotexts[0]


def test_a_clip_without_a_recipe_gives_its_rate_and_size(webui, uploads):
    written(webui, "")
    _, p, processed = asked_by_client(webui, {**NEXT})
    (facts,) = processed.extra_generation_params["AnimateDiff clips"]
    assert (facts["fps"], facts["frames"]) == (5, FRAMES)
    assert (p.width, p.prompt) == (SIDE, "a cat")


def test_what_is_no_recipe_of_a_clip_is_left_out(webui, uploads):
    hostile = (
        'x\nSteps: many, Sampler: None such, CFG scale: 3, Seed: 1e9, AnimateDiff: "noise: none, fps: 1e9, stride: 99"'
    )
    written(webui, hostile)
    before, p, _ = asked_by_client(webui, {"continue_clip": "in/earlier.png", "frames": FRAMES})
    assert (p.steps, p.sampler_name, p.seed) == (before["steps"], before["sampler_name"], before["seed"])
    assert p.cfg_scale == 3


def test_infotext_and_recipe_name_the_clip_and_its_hash(webui, earlier):
    path = webui.outputs.parent / "in" / "earlier.png"
    webui.paint({**NEXT, "format": ["GIF"]})
    (made,) = webui.outputs.rglob("*.gif")
    recipe = read_recipe(made)
    assert "continue_clip: in/earlier.png, keep_frames: 2" in recipe.infotext
    assert file_hash(path)[:10] in recipe.infotext
    pins = recipe.data["pins"]
    found = [(pin["frame"], pin["index"], pin["name"]) for pin in pins["frames"]]
    assert found == [(0, 3, "earlier.png"), (1, 4, "earlier.png")]
    assert pins["leads_on"]


def test_the_frames_behind_them_begin_where_their_movement_goes_on(webui, earlier, monkeypatch):
    """Where they start from noise, also in img2img at full strength: what is led to a plain image is plain."""
    from_noise = [{}, {**IMG2IMG, "denoising_strength": 1}]
    led = [frames_of(webui, NEXT, **fields)[2] for fields in from_noise]
    from_image = frames_of(webui, NEXT, **IMG2IMG)
    assert torch.allclose(led[0], led[0][0, 0, 0].expand_as(led[0]), atol=1e-5)
    assert torch.allclose(led[1], led[0], atol=1e-5)
    monkeypatch.setattr("lib_animatediff.sampling.onward.STRENGTHS", ())
    for fields in from_noise:
        assert frames_of(webui, NEXT, **fields)[2].std() > 0.1
    assert torch.equal(frames_of(webui, NEXT, **IMG2IMG), from_image)


def test_a_clip_within_the_request(webui, earlier):
    made = frames_of(webui, {**NEXT, "continue_clip": sent(earlier[2]), "keep_frames": 1})
    torch.testing.assert_close(made[0], torch.full((4, SIDE, SIDE), latent_of(earlier[2])), **EXACT)


REFUSALS = [
    ({"keep_frames": 6, "frames": 16}, "6 frames cannot be kept", "AD-S24"),
    ({"keep_frames": 4, "frames": 4}, "Keep 1 to 3", "AD-S24"),
    ({"continue_clip": "in/none.png"}, r"none\.png", "AD-V"),
    ({"continue_clip": "/etc/passwd"}, "outside the folders", "AD-W32"),
    ({"image": "in/earlier.png"}, "Frame 0 has two images", "AD-C71"),
    ({"model": "Text2Video-Zero", "scale": 1}, "pinned frames", "AD-C14"),
]


@pytest.mark.parametrize(("fields", "refusal"), every_once([{}, IMG2IMG], REFUSALS))
def test_refusals_come_before_sampling(webui, earlier, fields, refusal):
    clip, words, code = refusal
    with pytest.raises(Exception, match=words) as refused:
        webui.paint({**NEXT, **clip}, **fields)
    assert refused.value.status_code == 422
    assert code in str(refused.value)
    assert not shared.samplings


@pytest.mark.parametrize("words", ["reverse: True", "interpolate: x2"])
def test_a_clip_that_shows_no_direction_is_refused(webui, uploads, words):
    written(webui, INFOTEXT.replace("scale: 1.2", words))
    with pytest.raises(Exception, match="AD-S25"):
        webui.paint(NEXT)
