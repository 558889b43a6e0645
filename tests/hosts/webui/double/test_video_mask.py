"""Strength per frame, masks and inpainting checkpoints in both tabs: what is held, what comes back, what is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from support.matrix import every_once
from support.source_files import shades
from support.webui_double import double, samplers
from support.webui_double.double import SIDE, shared
from support.webui_double.sampling import latent_of

from lib_animatediff.video import read_recipe, write_clip

VIDEO = {"model": "mm.safetensors", "video": "in/a.gif"}
MASKED = {**VIDEO, "mask": "in/half.png", "mask_feather": 0}
IMG2IMG = {"tab": "img2img", "init_images": []}
TABS = pytest.mark.parametrize("fields", [{}, IMG2IMG], ids=["txt2img", "img2img"])
STILL = {"effect": 0}  # frames do not see each other
LEFT = SIDE // 2  # columns that a mask repaints


@pytest.fixture
def pictures(webui):
    """A video of five frames, and a mask that is white on the left, in the WebUI's folder."""
    folder = webui.outputs.parent / "in"
    folder.mkdir()
    made = shades(5, (SIDE, SIDE))
    write_clip(folder / "a.gif", made, fps=5)
    half = Image.new("L", (SIDE, SIDE))
    half.paste(255, (0, 0, LEFT, SIDE))
    half.save(folder / "half.png")
    return made


def sampled(webui, clip, strength=None, **fields):
    """The latents of the only pass."""
    found = []
    if strength is not None:
        clip, fields = ({"denoise": strength, **clip}, fields) if "tab" not in fields else (clip, {**fields})
        if "tab" in fields:
            fields["denoising_strength"] = strength
    p = webui.request(clip, **fields)
    sample = p.sample
    p.sample = lambda **given: found.append(sample(**given)) or found[0]
    double.process_images(p)
    return found[0], p


def latents(pictures):
    return torch.tensor([latent_of(picture) for picture in pictures]).view(-1, 1, 1, 1).expand(-1, 4, SIDE, SIDE)


def frames_of(processed):
    return processed.images[processed.index_of_first_image :]


def columns(image, begin, end):
    return image.convert("RGB").crop((begin, 0, end, SIDE)).tobytes()


@TABS
def test_a_pinned_frame_is_its_image_under_a_mask(webui, pictures, fields):
    Image.new("RGB", (SIDE, SIDE), (200, 0, 0)).save(webui.outputs.parent / "in" / "red.png")
    made = frames_of(webui.paint({**MASKED, "image": "in/red.png", "pin_inversion": 0, "format": ["Frame"]}, **fields))
    source = [columns(picture, LEFT, SIDE) for picture in pictures]
    assert [columns(frame, LEFT, SIDE) == own for frame, own in zip(made, source, strict=True)] == [False] + 4 * [True]


def test_a_mask_that_cannot_be_applied_is_said_once(webui, pictures, monkeypatch):
    calls = []

    def fail(*_args):
        calls.append(1)
        raise OSError("the disk is gone")

    monkeypatch.setattr("lib_animatediff.request.start.kept.KeptPixels.put_back", fail)
    assert "mask has no effect in some frames. the disk is gone" in webui.paint(MASKED).comments
    assert len(calls) == 1


@TABS
def test_each_frame_has_its_own_strength(webui, pictures, fields):
    """A lower one is led to its source at the double's only step, at 0 it is its source."""
    given = latents(pictures)
    rows, p = sampled(webui, {**VIDEO, **STILL, "denoise": "0: 0.8, 1: 0.4, 2: 0"}, **fields, batch_size=2)
    (met,) = shared.samplings
    assert met.strength == 0.8
    assert p.denoising_strength == 0.75  # as the request had it
    for clip in rows.split(5):
        assert torch.equal(clip[2:], given[2:])
        held = met.table[500].sqrt() * given[1]
        assert (clip[1] - held).abs().max() < 1e-5
    alone, _ = sampled(webui, {**VIDEO, **STILL}, 0.8, **fields, batch_size=2)
    assert (rows[0] - alone[0]).abs().max() < 1e-6
    assert torch.equal(shared.samplings[1].noise, met.noise)


@TABS
def test_the_same_strength_in_all_frames_is_one_number(webui, pictures, fields):
    one, _ = sampled(webui, VIDEO, 0.6, **fields)
    several, _ = sampled(webui, {**VIDEO, "denoise": "0: 0.6, 3: 0.6"}, 0.6 if fields else None, **fields)
    assert torch.equal(one, several)


@TABS
def test_outside_the_mask_every_pixel_is_the_sources(webui, pictures, fields):
    clip = {**MASKED, "denoise": 1, "format": ["Frame"]}
    processed = webui.paint(clip, **fields, batch_size=2, denoising_strength=1)
    images = frames_of(processed)
    assert len(images) == 10
    for row in range(10):
        assert columns(images[row], LEFT, SIDE) == columns(pictures[row % 5], LEFT, SIDE)
        assert columns(images[row], 0, LEFT) != columns(pictures[row % 5], 0, LEFT)
    assert "Video mask: half.png" in processed.infotexts[-1]


def test_the_mask_holds_for_the_second_pass_in_its_own_size(webui, pictures):
    clip = {**MASKED, "denoise": 0.5, "format": ["Frame"]}
    processed = webui.paint(clip, enable_hr=True, denoising_strength=0.7)
    for image, picture in zip(frames_of(processed), pictures, strict=True):
        assert image.size == (2 * SIDE, 2 * SIDE)
        wanted = picture.convert("RGB").resize(image.size)
        right = (2 * LEFT, 0, 2 * SIDE, 2 * SIDE)
        # A pixel beside the edge is resampled from white and black.
        assert image.crop((right[0] + 2, *right[1:])).tobytes() == wanted.crop((right[0] + 2, *right[1:])).tobytes()


@TABS
def test_a_black_mask_is_the_video_and_a_white_one_none(webui, pictures, fields):
    for name, level in (("black", 0), ("white", 255)):
        Image.new("L", (SIDE, SIDE), level).save(webui.outputs.parent / "in" / f"{name}.png")
    black, _ = sampled(webui, {**MASKED, "mask": "in/black.png"}, 0.5, **fields)
    assert torch.equal(black, latents(pictures))
    plain, _ = sampled(webui, VIDEO, 0.5, **fields)
    white, _ = sampled(webui, {**VIDEO, "mask_path": "in/white.png"}, 0.5, **fields)
    assert torch.equal(white, plain)
    inverted, _ = sampled(webui, {**VIDEO, "mask": "in/white.png", "mask_invert": True}, 0.5, **fields)
    assert torch.equal(inverted, latents(pictures))


def test_a_video_of_masks_and_the_videos_own_transparency(webui, pictures):
    folder = webui.outputs.parent / "in"
    (folder / "masks").mkdir()
    (folder / "clear").mkdir()
    for number in range(5):
        Image.new("L", (SIDE, SIDE), 255 * (number == 3)).save(folder / "masks" / f"{number}.png")
        clear = Image.new("RGBA", (SIDE, SIDE), (9 * number, 0, 0, 255))
        clear.paste((0, 0, 0, 0), (0, 0, LEFT, SIDE))
        clear.save(folder / "clear" / f"{number}.png")
    rows, _ = sampled(webui, {**VIDEO, "mask": "in/masks"}, 0.5)
    same = [torch.equal(row, given) for row, given in zip(rows, latents(pictures), strict=True)]
    assert same == [True, True, True, False, True]
    clip = {**VIDEO, "video": "in/clear", "mask": "Alpha", "mask_feather": 0, "format": ["Frame"]}
    processed = webui.paint({**clip, "denoise": 1})
    for number, image in enumerate(frames_of(processed)):
        assert columns(image, LEFT, SIDE) == bytes([9 * number, 0, 0]) * (LEFT * SIDE)
        assert columns(image, 0, LEFT) != b"\xff" * (3 * LEFT * SIDE)


def test_infotext_and_recipe_name_the_mask(webui, pictures):
    webui.paint({**MASKED, "format": ["GIF"], "denoise": "0: 0.5, 4: 0.25"})
    (made,) = webui.outputs.rglob("*.gif")
    recipe = read_recipe(made)
    assert "mask: in/half.png" in recipe.infotext
    assert recipe.data["video"]["denoise"] == [0.5, 0.4375, 0.375, 0.3125, 0.25]
    mask = recipe.data["video"]["mask"]
    assert (mask["name"], mask["invert"], mask["feather"], len(mask["sha256"])) == ("half.png", False, 0, 64)
    assert str(webui.outputs.parent) not in json.dumps(recipe.data)


def test_what_has_no_effect_is_said(webui, pictures):
    processed = webui.paint({"model": "mm.safetensors", "frames": 2, "mask_path": "in/half.png"})
    assert "mask has no effect, since there is no source video." in processed.comments
    shared.samplings.clear()
    processed = webui.paint({**VIDEO, "mask_feather": 9})
    assert "mask_feather has no effect, since there is no video mask." in processed.comments
    write_clip(webui.outputs.parent / "in" / "long.gif", shades(7, (SIDE, SIDE)), fps=5)
    processed = webui.paint({**VIDEO, "mask": "in/long.gif"})
    assert "long.gif has more masks than a.gif has frames. The first 5 are used." in processed.comments


REFUSALS = [
    ({"mask": "in/none.png"}, "There is no mask", "AD-V72"),
    ({"mask_path": "/etc/passwd"}, "outside the folders that the WebUI may read", "AD-W32"),
    ({"mask": "alpha"}, "has no transparent pixels", "AD-V71"),
    ({"mask": "in/short.gif"}, "has 3 masks for a clip of 5 frames", "AD-V73"),
    ({"mask": "in/flat.png"}, "another shape than a.gif", "AD-V74"),
    ({"mask": "in/half.png", "mask_feather": 65}, "mask_feather must be between 0 and 64", "AD-C09"),
    ({"denoise": "0: 0.5, 9: 1"}, "the clip has no frame 9", "AD-C22"),
    ({"denoise": "0: 0.5, 2: 1.5"}, "denoise must be between 0 and 1", "AD-C28"),
]


@pytest.mark.parametrize(("fields", "refusal"), every_once([{}, IMG2IMG], REFUSALS))
def test_refusals_come_before_sampling(webui, pictures, fields, refusal):
    clip, words, code = refusal
    folder = webui.outputs.parent / "in"
    write_clip(folder / "short.gif", shades(3, (SIDE, SIDE)), fps=5)
    Image.new("L", (SIDE, 2 * SIDE)).save(folder / "flat.png")
    with pytest.raises(Exception, match=words) as refused:
        webui.paint({**VIDEO, **clip}, **fields)
    assert code in str(refused.value)
    assert not shared.samplings


def test_two_masks_are_refused_and_that_of_img2img_alone_is_left_to_the_webui(webui, pictures):
    given = {**IMG2IMG, "image_mask": Image.new("L", (SIDE, SIDE), 255)}
    p = webui.request(MASKED, **given)
    p.inpaint_full_res = False
    with pytest.raises(Exception, match=r"img2img has a mask, and the clip has half\.png as another one"):
        double.process_images(p)
    assert not shared.samplings
    p = webui.request(VIDEO, **given)
    p.inpaint_full_res = False
    double.process_images(p)
    assert len(shared.samplings) == 1


def test_an_inpainting_checkpoint_sees_each_frames_mask(webui, pictures, monkeypatch):
    """Built by the WebUI's own function, with a mask for each row."""
    asked = []

    def conditioning(_p, image, latent, image_mask):
        asked.append((image, latent, image_mask))
        return torch.full((1, 5, 1, 1), float(len(asked)))

    seen = []
    sampler = webui.made["modules.sd_samplers"].create_sampler("", shared.sd_model).__class__
    monkeypatch.setattr(double.Processing, "inpainting_image_conditioning", conditioning, raising=False)
    monkeypatch.setattr(sampler, "conditioning_key", "hybrid")
    original = sampler.sample_img2img

    def sample_img2img(self, *args, image_conditioning=None, **kwargs):
        seen.append(image_conditioning)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(sampler, "sample_img2img", sample_img2img)
    monkeypatch.setattr(shared.sd_model, "first_stage_model", torch.nn.Linear(1, 1), raising=False)
    webui.paint({**MASKED, "denoise": 1}, batch_size=2)
    assert len(asked) == 5
    image, latent, mask = asked[2]
    assert torch.equal(image[0, 0], torch.full((SIDE, SIDE), 16 / 255) * 2 - 1)
    assert float(latent[0, 0, 0, 0]) == pytest.approx(latent_of(pictures[2]))
    assert (mask[0, 0] == (torch.arange(SIDE) < LEFT)).all()
    (rows,) = seen
    assert rows[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5] * 2


# --------------------------------------------------------------------------------------------------------------------
# the hook, in samplers as the WebUI has them


KINDS = [samplers.euler_a, samplers.heun_with_churn, samplers.ddim, samplers.unipc, samplers.dpm_fast]
KINDS += [samplers.dpm_adaptive]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_held_parts_stay_the_image_in_every_family_of_samplers(webui, kind):
    held = webui.module("clip.start.held")
    named = samplers.schedule(kind)
    generator = torch.Generator().manual_seed(5)
    p = SimpleNamespace(
        rng=SimpleNamespace(next=lambda: torch.randn(3, *samplers.SHAPE, generator=generator)),
        orders=[],
        opts=SimpleNamespace(uni_pc_order=3),
    )
    model = samplers.Denoiser(3)
    model.mask_before_denoising = kind in (samplers.ddim, samplers.unipc)
    images = 3 + torch.randn(3, *samplers.SHAPE, generator=generator)
    highest = 999.0 if model.mask_before_denoising else samplers.begins_at(kind, named)
    levels = torch.tensor([float("inf"), highest / 3, -1]).view(-1, 1, 1, 1)
    model.register_forward_hook(held.DenoiserHook(images, levels, samplers.TABLE))
    begun = p.rng.next() * samplers.begins_at(kind, named)
    reports = []
    made = kind(p)(model, begun, **named, extra_args={}, callback=reports.append)
    distance = (made - images).abs().flatten(1).max(1).values
    left = 0.2 if kind in (samplers.ddim, samplers.unipc, samplers.dpm_fast, samplers.dpm_adaptive) else 1e-4
    assert distance[2] < left
    assert distance[0] > 1
    assert distance[1] > 1
    called = torch.tensor(model.calls)
    assert (called > highest / 3).any()
    assert (called <= highest / 3).any()


def test_the_levels_are_those_at_which_image_to_image_begins(webui):
    free_from = webui.module("clip.start.held").free_from
    begins = torch.arange(1.0, 21.0)  # of 20 steps: i + 1
    strengths = torch.tensor([0.0, 0.01, 0.35, 0.6, 0.79, 0.8], dtype=torch.float64)
    assert free_from(strengths, 0.8, begins).tolist() == [-1, 1, 8, 13, 16, float("inf")]
    assert free_from(torch.ones(1, dtype=torch.float64), 2.0, begins).tolist() == [20]
