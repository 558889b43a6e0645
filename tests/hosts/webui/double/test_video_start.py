"""Clips from the frames of a video, in both tabs: what the sampler begins from, what is taken over, what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from support.matrix import every_once
from support.source_files import CLICKS, clicks_of, shades, write_film_with_sound
from support.unchanged import Portrait
from support.webui_double import double
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.sampling import latent_of

from lib_animatediff.video import read_recipe, write_clip
from lib_animatediff.video.hashing import file_hash

VIDEO = {"model": "mm.safetensors", "video": "in/a.gif"}
IMG2IMG = {"tab": "img2img", "init_images": []}
TABS = pytest.mark.parametrize("fields", [{}, IMG2IMG], ids=["txt2img", "img2img"])
EXACT = {"rtol": 0, "atol": 1e-6}


@pytest.fixture
def pictures(webui):
    """A video of five frames in the WebUI's folder."""
    folder = webui.outputs.parent / "in"
    folder.mkdir()
    made = shades(5, (SIDE, SIDE))
    write_clip(folder / "a.gif", made, fps=5)
    return made


def begun(clip, webui, strength=0.5, **fields):
    """What the sampler of the only pass begins from, and the request."""
    if fields.get("tab") == "img2img":
        fields["denoising_strength"] = strength
    else:
        clip = {"denoise": strength, **clip}
    processed = webui.paint(clip, **fields)
    (met,) = shared.samplings
    return met, processed


def latents(pictures):
    return torch.tensor([latent_of(picture) for picture in pictures]).view(-1, 1, 1, 1).expand(-1, 4, SIDE, SIDE)


def of(given):
    return given.expand(-1, 4, SIDE, SIDE)


@TABS
def test_each_frame_starts_from_its_own_frame_with_the_noise_of_its_seed(webui, pictures, fields):
    met, _ = begun(VIDEO, webui, **fields, batch_size=2)
    torch.testing.assert_close(of(met.given), latents(pictures * 2), **EXACT)
    assert torch.equal(met.noise, double.noise([1 + row for row in range(10)]))
    assert met.strength == 0.5


@TABS
def test_part_rate_and_step_choose_the_frames(webui, pictures, fields):
    part = {"video_start": 1, "video_end": 4, "video_every": 2}
    met, processed = begun({**VIDEO, **part}, webui, **fields)
    torch.testing.assert_close(of(met.given), latents([pictures[1], pictures[3]]), **EXACT)
    (facts,) = processed.extra_generation_params["AnimateDiff clips"]
    assert (facts["frames"], facts["fps"]) == (2, 2.5)
    shared.samplings.clear()
    met, _ = begun({**VIDEO, "video_fps": 10, "frames": 3}, webui, **fields)
    torch.testing.assert_close(of(met.given), latents([pictures[0], pictures[0], pictures[1]]), **EXACT)


def test_given_frames_and_fps_stay(webui, pictures):
    _, processed = begun({**VIDEO, "video_length": 2, "fps": 12}, webui)
    (facts,) = processed.extra_generation_params["AnimateDiff clips"]
    assert (facts["frames"], facts["fps"]) == (2, 12)
    webui.paint({**VIDEO, "video_length": 0})
    assert shared.samplings[-1].rows == 5


@TABS
def test_at_no_strength_the_sampler_does_not_run(webui, pictures, fields):
    sampled = []
    p = webui.request({**VIDEO, "denoise": 0}, **fields)
    if fields:
        p.denoising_strength = 0
    sample = p.sample
    p.sample = lambda **given: sampled.append(sample(**given)) or sampled[0]
    double.process_images(p)
    assert not shared.samplings
    torch.testing.assert_close(of(sampled[0]), latents(pictures), **EXACT)


@TABS
def test_at_full_strength_the_clip_is_the_prompts_alone(webui, pictures, fields):
    webui.paint({**CLIP, "frames": 5})
    webui.paint({**VIDEO, "denoise": 1}, **fields, **({"denoising_strength": 1} if fields else {}))
    plain, full = shared.samplings
    assert full.given is None
    assert torch.equal(full.noise, plain.noise)
    first, second = shared.painted
    assert torch.equal(first, second)


def test_the_second_pass_has_the_strength_of_hires_fix(webui, pictures):
    webui.paint({**VIDEO, "denoise": 0.3}, enable_hr=True, denoising_strength=0.7)
    first, second = shared.samplings
    assert (first.strength, second.strength) == (0.3, 0.7)
    torch.testing.assert_close(of(first.given), latents(pictures), **EXACT)
    assert not torch.equal(second.given.expand_as(second.noise)[..., :SIDE, :SIDE], latents(pictures))


def test_a_folder_of_images_is_fitted_to_the_clip(webui):
    folder = webui.outputs.parent / "wide"
    folder.mkdir()
    for number in (9, 10):
        image = Image.new("RGB", (64, 16), (number, 0, 0))
        image.paste((200, 0, 0), (0, 0, 4, 16))
        image.save(folder / f"{number}.png")
    met, _ = begun({**VIDEO, "video": "wide", "video_path": ""}, webui)
    torch.testing.assert_close(of(met.given), latents([Image.new("RGB", (8, 8), (n, 0, 0)) for n in (9, 10)]), **EXACT)
    shared.samplings.clear()
    met, _ = begun({**VIDEO, "video": "wide", "video_fit": "pad"}, webui)
    torch.testing.assert_close(of(met.given), latents([Image.new("RGB", (8, 8))] * 2), **EXACT)


def test_names_of_the_existing_extension(webui, pictures):
    """The path of frames counts before the video."""
    met, _ = begun({"model": "mm", "video_source": "in/b.gif", "video_path": "in/a.gif"}, webui)
    assert met.rows == 5
    webui.paint({"model": "mm", "video_source": "in/a.gif", "video_path": ""})
    assert shared.samplings[-1].rows == 5


def test_infotext_and_recipe_name_the_source_and_its_hash(webui, pictures):
    path = webui.outputs.parent / "in" / "a.gif"
    webui.paint({**VIDEO, "video": str(path), "format": ["GIF"], "denoise": 0.5})
    (made,) = webui.outputs.rglob("*.gif")
    recipe = read_recipe(made)
    digest = file_hash(path)
    assert f"Video: a.gif, Video hash: {digest[:10]}" in recipe.infotext
    assert "frames: 5" in recipe.infotext
    assert "video: in/a.gif" in recipe.infotext
    assert str(webui.outputs.parent) not in json.dumps(recipe.data)
    wanted = {"name": "a.gif", "sha256": digest, "start": 0, "end": None, "every": 1, "fps": None, "fit": "crop"}
    assert recipe.data["video"] == {**wanted, "denoise": 0.5}


def test_sound_is_cut_to_the_clip(webui):
    (webui.outputs.parent / "in").mkdir()
    write_film_with_sound(webui.outputs.parent / "in" / "a.mp4", "aac")
    clip = {"model": "mm", "video": "in/a.mp4", "video_start": 6, "format": ["MP4"], "denoise": 0}
    webui.paint(clip, width=64, height=64)
    (made,) = webui.outputs.rglob("*.mp4")
    heard, end = clicks_of(made)
    assert heard == pytest.approx([seconds - 0.6 for seconds in CLICKS if seconds > 0.6], abs=0.02)
    assert end == pytest.approx(2.4, abs=0.02)


def test_what_has_no_effect_is_said(webui, pictures):
    _, processed = begun({**VIDEO, "denoise": 0.3}, webui, **IMG2IMG)
    assert "denoise has no effect in img2img, whose own denoising strength is used." in processed.comments
    shared.samplings.clear()
    _, processed = begun({**CLIP, "video_start": 1}, webui)
    assert "video_start has no effect, since there is no source video." in processed.comments


REFUSALS = [
    ({"video": "in/b.gif"}, "There is no video", "AD-V59"),
    ({"video": "/etc/passwd"}, "outside the folders that the WebUI may read", "AD-W32"),
    ({"video": "in/../../a.gif"}, "outside the folders", "AD-W32"),
    ({"video": "https://example.com/a.mp4"}, "is an address", "AD-V54"),
    ({"frames": 6}, "gives 5 frames", "AD-V57"),
    ({"video_end": 9}, "there is no frame 9", "AD-V61"),
    ({"model": "Text2Video-Zero", "frames": 5}, "a source video", "AD-C14"),
]


@pytest.mark.parametrize(("fields", "refusal"), every_once([{}, IMG2IMG], REFUSALS))
def test_refusals_come_before_sampling(webui, checkpoint, pictures, fields, refusal):
    clip, words, code = refusal
    picture, before = webui.picture(), Portrait(checkpoint)
    shared.samplings.clear()
    p = webui.request({**VIDEO, **clip}, **{**fields, "init_images": []} if fields else {})
    with pytest.raises(Exception, match=words) as refused:
        double.process_images(p)
    assert refused.value.status_code == 422
    assert code in str(refused.value)
    assert not shared.samplings
    before.assert_unchanged()
    assert webui.picture() == picture


def test_a_link_out_of_the_folder_is_refused_in_a_series_too(webui, pictures, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "b.png"
    pictures[0].save(outside)
    series = webui.outputs.parent / "in" / "series"
    series.mkdir()
    pictures[0].save(series / "a.png")
    (series / "b.png").symlink_to(outside)
    for path in ("in/series", "in/series/?.png", "in/series/b[.]png"):
        with pytest.raises(Exception, match="AD-W32"):
            webui.paint({"model": "mm.safetensors", "video": path})


def test_a_link_out_of_the_folder_is_refused(webui, pictures, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "b.gif"
    write_clip(outside, pictures, fps=5)
    (webui.outputs.parent / "in" / "b.gif").symlink_to(outside)
    with pytest.raises(Exception, match="outside the folders"):
        webui.paint({**VIDEO, "video": "in/b.gif"})
    shared.cmd_opts.gradio_allowed_path = [str(outside.parent)]
    webui.paint({**VIDEO, "video": "b.gif"})
    assert shared.samplings[-1].rows == 5


@TABS
def test_the_request_gets_its_values_back(webui, pictures, fields):
    p = webui.request(VIDEO, **fields)
    double.process_images(p)
    assert p.denoising_strength == 0.75
    assert getattr(p, "init_images", []) == []
    assert p.batch_size == 1


def test_an_uploaded_video_fills_in_path_frames_and_rate(webui, pictures):
    """One that cannot be used leaves frames and rate alone: Generate says why."""
    field, unchanged = webui.module("ui.video_field"), {"__type__": "update"}
    path = str(webui.outputs.parent / "in" / "a.gif")
    assert field._taken(path) == (path, 0, 5.0)
    assert field._taken("/etc/passwd") == ("/etc/passwd", unchanged, unchanged)
    assert field._shown(path, path) == unchanged
    assert field._shown("", path) is None
