"""`animate` does what the settings say: each acts, or is refused by name. Several modules, plans, and their files."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.pocket_clips import BLUE, CFG, RED, SIZE, TINY, cells, pixels
from support.setting_values import MASK

from lib_animatediff import AnimateDiffError, ClipError, MotionScale, Text2VideoZero
from lib_animatediff.builtin_model import POCKET
from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.networks import PathCatalog
from lib_animatediff.request.loras import LoraFile
from lib_animatediff.request.methods import ModuleFile
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import SETTINGS, ClipSettings, parse_settings
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.video import read_clip
from motion_module import load_motion_module

PAN = POCKET.folder / POCKET.motion_loras[0]
MODULE = POCKET.folder / POCKET.motion
HOW = {"size": TINY, "cfg": CFG}
QUICK = {"size": TINY, "cfg": 1.0}  # without a negative prompt


@pytest.fixture(scope="module")
def other_file(tmp_path_factory):
    """A second motion module that fits the built-in checkpoint."""
    state, generator = load_file(MODULE), torch.Generator().manual_seed(1)
    for name, weight in state.items():
        if not name.endswith(".pe"):
            state[name] = weight[torch.randperm(len(weight), generator=generator)].contiguous()
    path = tmp_path_factory.mktemp("motion") / "other.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def other(other_file):
    return load_motion_module(other_file)


@pytest.fixture
def rows(pipeline):
    """Rows of each call that reaches the UNet's own layers."""
    seen = []
    with pipeline.unet.conv_in.register_forward_pre_hook(lambda _layer, args: seen.append(len(args[0]))):
        yield seen


# --------------------------------------------------------------------------------------------------------------------
# bar 3 of the redesign: the settings decide


def test_48_frames_with_views_there_and_back(pipeline, motion, rows):
    """One UNet call in each step holds all frames: the temporal attention alone has windows."""
    settings = parse_settings({"frames": 48, "views": True, "reverse": True})
    clip = pixels(animate(pipeline, motion, prompt=RED, settings=settings, steps=2, **QUICK))
    assert rows == [48, 48]
    assert len(clip) == 48 + 46
    assert torch.equal(clip[48:], clip[1:47].flip(0))
    assert clip[:48].diff(dim=0).flatten(1).any(dim=1).all()  # no two neighbours are the same


def test_without_settings_a_long_clip_is_made_in_windows(pipeline, motion, rows):
    assert len(animate(pipeline, motion, prompt=RED, frames=18, steps=1, **QUICK)) == 18
    assert len(rows) > 1
    assert set(rows) == {16}
    rows.clear()
    longer = parse_settings({"context_length": 20})
    assert len(animate(pipeline, motion, prompt=RED, frames=20, settings=longer, steps=1, **QUICK)) == 20
    assert rows == [20]


# --------------------------------------------------------------------------------------------------------------------
# every setting


REFUSED = "refused"
LONG = {"frames": 7, "context_length": 4, "overlap": 1}
AGAIN = {"freeinit_enable": True, "freeinit_iters": 2}
SAVED = {"formats": ["GIF"]}

TRAVEL = f"0: {RED}\n3: {BLUE}"
# A value other than the default, with what the clip needs for it to matter; or why the call cannot use it.
PROBES = {
    "enable": "animate is called only for clips, so that it need not be said",
    "model": ("other.safetensors", REFUSED),
    "frames": (5, {}),
    "fps": (4, SAVED),
    "loop_count": (2, SAVED),
    "context_length": (3, {"frames": 6, "overlap": 1}),
    "overlap": (2, LONG | {"overlap": -1}),
    "stride": (2, LONG),
    "context_kind": ("static", LONG),
    "fusion": ("flat", LONG),
    "closed_loop": ("A", LONG),
    "reverse": (True, {}),
    "formats": (["WEBP"], SAVED),
    "views": (True, LONG),
    "travel_interpolation": ("step", {}),
    "travel_easing": ("ease-in", {}),
    "travel_hold": (0.5, {}),
    "scale": ("1.5", {}),
    "effect": ("1, 0.5", {}),
    "scale_steps": ("0%: 1, 60%: 1.5", {}),
    "effect_steps": ("0.5", {}),
    "effect_start": (0.4, {}),
    "effect_end": (0.4, {}),
    "blocks": ("up effect 0.5", {}),
    "motion_mask": (MASK, {}),
    "mask_of": ("scale", {"motion_mask": MASK, "scale": "1.5"}),
    "motion_loras": (f"{PAN}:0.5", {}),
    "noise": ("constant", {}),
    "noise_share": (0.9, {"noise": "shared"}),
    "frame_seeds": ("5, 60", {}),
    "freeinit_enable": (True, {}),
    "freeinit_filter": ("ideal", AGAIN),
    "freeinit_ds": (0.6, AGAIN),
    "freeinit_dt": (0.6, AGAIN),
    "freeinit_iters": (1, AGAIN),
    "freeinit_coarse": (True, AGAIN),
    "zero_x": (30, REFUSED),
    "zero_y": (-30, REFUSED),
    "zero_smoothing": (0.5, REFUSED),
    "preview": (True, {}),
    "reuse": "acts from 8 steps on, see test_cheaper_steps.py",
    "reuse_branch": "acts from 8 steps on, see test_cheaper_steps.py",
    "reuse_on_cpu": "acts from 8 steps on, see test_cheaper_steps.py",
    "guidance_start": "acts with CFG above 1, see test_cheaper_steps.py",
    "guidance_end": "acts with CFG above 1, see test_cheaper_steps.py",
    "speed": "acts with distilled motion modules only, see test_samplers.py",
    "interpolate": ("x2", {}),
    "interpolator": "acts with fast motion or the weights of RIFE, see tests/video/test_rife.py",
    "upscale": (2, {}),
    "upscale_denoise": (1, {"upscale": 2}),
    "video": ("source.mp4", REFUSED),
    "denoise": ("0.4", REFUSED),
    "video_inversion": (0.5, REFUSED),
    "video_start": (1, REFUSED),
    "video_end": (8, REFUSED),
    "video_every": (2, REFUSED),
    "video_fps": (4.0, REFUSED),
    "video_fit": ("pad", REFUSED),
    "video_mute": (True, REFUSED),
    "mask": ("mask.png", REFUSED),
    "mask_invert": (True, REFUSED),
    "mask_feather": (9, REFUSED),
    "image": ("a.png", REFUSED),
    "last_image": ("a.png", REFUSED),
    "key_images": ("1: a.png", REFUSED),
    "continue_clip": ("clip.mp4", REFUSED),
    "keep_frames": (3, REFUSED),
    "rerender_clip": ("clip.mp4", REFUSED),
    "rerender_frames": ("3", REFUSED),
    "rerender_strength": (0.5, REFUSED),
    "pin_init": (True, REFUSED),
    "image_fit": ("pad", REFUSED),
    "pin_strength": (0.5, REFUSED),
    "pin_inversion": (0.5, REFUSED),
    "source_size": ("source", REFUSED),
    "latent_power": (2.0, REFUSED),
    "latent_scale": (16.0, REFUSED),
    "last_frame": ("a.png", REFUSED),
    "latent_power_last": (2.0, REFUSED),
    "latent_scale_last": (16.0, REFUSED),
    "image_method": ("pins", REFUSED),
    "sparse_ctrl": ("rgb.safetensors", REFUSED),
    "scribbles": ("0: a.png", REFUSED),
    "sparse_strength": ("0.5", REFUSED),
    "sparse_start": (0.2, REFUSED),
    "sparse_end": (0.8, REFUSED),
    "sparse_without_key": ("none", REFUSED),
    "sparse_colour_match": (0.5, REFUSED),
    "pia_motion": ("large", REFUSED),
    "i2v_drift": (0.4, REFUSED),
    "i2v_strength": ("0.5", REFUSED),
    "camera": ("pan-left", REFUSED),
    "camera_model": ("CameraCtrl.safetensors", REFUSED),
    "camera_strength": ("0.5", REFUSED),
    **dict.fromkeys(("camera_start", "camera_end"), (0.5, REFUSED)),
    "camera_every": (2, REFUSED),
    "control_images": ("0: walk.mp4", REFUSED),
    "control_weight": ("0.5", REFUSED),
    "control_fill": ("loop", REFUSED),
    "control_reach": (4, REFUSED),
    "control_start": ("0.2", REFUSED),
    "control_end": ("0.6", REFUSED),
    "control_masks": ("masks", REFUSED),
    "resume": (True, REFUSED),
    "request_id": ("job7", REFUSED),
}


@pytest.fixture(scope="module")
def what_comes_of(pipeline, motion, tmp_path_factory):
    """Everything that reached the UNet, the frames returned, and the files written, as one hash."""
    known = {}

    def what_comes_of(settings, writes):
        key = repr((sorted(settings.items()), writes))
        if key not in known:
            known[key] = hashed(pipeline, motion, settings, tmp_path_factory.mktemp("clips") if writes else None)
        return known[key]

    return what_comes_of


def hashed(pipeline, motion, settings, folder):
    digest = hashlib.sha256()

    def note(_unet, args, kwargs):
        for given in (args[0], args[1], kwargs["encoder_hidden_states"]):
            digest.update(given.float().numpy().tobytes())

    asked = {"prompt": TRAVEL, "seed": 3, "steps": 2, "output": folder and folder / "clip", "decoder": cells}
    with torch.no_grad(), pipeline.unet.register_forward_pre_hook(note, with_kwargs=True):
        images = animate(pipeline, motion, settings=parse_settings(settings), **asked, **QUICK)
    files = [path.name.encode() + path.read_bytes() for path in sorted(folder.rglob("*"))] if folder else []
    digest.update(b"".join([*(image.tobytes() for image in images), *files]))
    return digest.hexdigest()


def test_every_setting_of_the_table_has_a_probe():
    assert list(PROBES) == list(SETTINGS)
    for name, probe in PROBES.items():
        if not isinstance(probe, str):
            more = probe[1] if isinstance(probe[1], dict) else {}
            assert probe[0] != more.get(name, SETTINGS[name].default)


ACTING = [name for name, probe in PROBES.items() if not isinstance(probe, str) and probe[1] != REFUSED]


@pytest.mark.parametrize("name", ACTING)
def test_a_setting_acts(what_comes_of, name):
    value, more = PROBES[name]
    writes, more = "formats" in more, {"frames": 4} | more
    assert what_comes_of(more | {name: value}, writes) != what_comes_of(more, writes)


def test_the_same_settings_are_the_same_clip(pipeline, motion, what_comes_of, tmp_path):
    settings = {"frames": 4} | SAVED
    assert hashed(pipeline, motion, settings, tmp_path) == what_comes_of(settings, True)


@pytest.mark.parametrize("name", [name for name, probe in PROBES.items() if probe[1] == REFUSED])
def test_a_setting_that_cannot_act_is_refused_by_name(pipeline, motion, tmp_path, name):
    for folder in (None, tmp_path):
        with pytest.raises(ClipError, match=rf"\b{name}\b"):
            hashed(pipeline, motion, {"frames": 4, name: PROBES[name][0]}, folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["fps", "loop_count", "formats"])
def test_a_setting_of_files_is_refused_where_none_is_written(pipeline, motion, name):
    with pytest.raises(ClipError, match=rf"^{name} would have no effect in this call. Pass output"):
        hashed(pipeline, motion, {"frames": 4, name: PROBES[name][0]}, None)


def test_the_files_are_those_of_the_settings(pipeline, motion, tmp_path):
    whole = HOW | {"size": SIZE}  # in which no two frames are the same
    given = {"frames": 3, "reverse": True, "interpolate": "x2", "formats": ["WEBP", "PNG", "Frame"], "fps": 5}
    settings = parse_settings(given)
    images = animate(pipeline, motion, prompt=RED, settings=settings, steps=1, output=tmp_path / "clip.mp4", **whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "clip.webp"]
    kept = [frame.image.convert("RGB") for frame in read_clip(tmp_path / "clip", fps=5)]
    assert torch.equal(pixels(kept), pixels(images))
    assert len(images) == 8
    rendered = animate(
        pipeline,
        motion,
        prompt=RED,
        settings=replace(settings, interpolate="off"),
        steps=1,
        output=tmp_path / "b",
        **whole,
    )
    assert torch.equal(pixels(images[::2]), pixels(rendered))
    with Image.open(tmp_path / "clip.webp") as kept:
        kept.load()
        assert (kept.n_frames, kept.info["duration"]) == (8, 100)


def test_a_module_is_known_by_its_name(pipeline, motion):
    """Settings of a saved clip name their module; that of the call is the same then, or another."""
    given = parse_settings({"frames": 2, "model": motion.name})
    plain = pixels(animate(pipeline, motion, prompt=RED, settings=replace(given, model=""), steps=1, **HOW))
    assert torch.equal(pixels(animate(pipeline, motion, prompt=RED, settings=given, steps=1, **HOW)), plain)


# --------------------------------------------------------------------------------------------------------------------
# plans


def test_a_plan_is_the_clip_of_its_settings_bit_for_bit(pipeline, motion):
    more = {"noise": "freenoise", "scale": "1.2", "reverse": True, "motion_loras": f"{PAN}:0.5"}
    settings = parse_settings(LONG | more)
    asked = {"prompt": TRAVEL, "negative_prompt": "0: bad\n3: worse", "seed": 5, "steps": 2}
    by_settings = pixels(animate(pipeline, motion, settings=settings, **asked, **HOW))
    plan = plan_clip(replace(settings, model=str(MODULE)), Sampling(**asked), PathCatalog())
    assert torch.equal(pixels(animate(pipeline, plan, **HOW)), by_settings)
    assert torch.equal(pixels(animate(pipeline, plan_from_json(plan.to_json()), **HOW)), by_settings)
    assert len(by_settings) == 12


BESIDE = {"prompt": RED, "negative_prompt": "bad", "seed": 1, "frames": 4, "settings": ClipSettings(), "steps": 3}


@pytest.mark.parametrize("name", BESIDE)
def test_what_a_plan_decides_cannot_be_given_beside_it(pipeline, name):
    plan = plan_clip(parse_settings({"frames": 2, "model": str(MODULE)}), Sampling(RED, steps=1), PathCatalog())
    with pytest.raises(ClipError, match=rf"^{name} would have no effect together with a plan"):
        animate(pipeline, plan, **{name: BESIDE[name]}, **HOW)


def test_a_plan_without_files_is_refused(pipeline):
    with pytest.raises(ClipError, match="AD-D05"):
        animate(pipeline, plan_clip(parse_settings({"frames": 2}), Sampling(RED, steps=1)), **HOW)
    with pytest.raises(AnimateDiffError, match=r"nothing\.ckpt"):
        animate(pipeline, plan_clip(parse_settings({"model": "nothing.ckpt"}), Sampling(RED), PathCatalog()), **HOW)


def test_a_plan_of_text2video_zero(pipeline):
    settings = parse_settings({"frames": 3, "model": "text2video-zero", "zero_x": -24, "zero_y": 0})
    plan = plan_clip(settings, Sampling(RED, seed=3, steps=3), PathCatalog())
    wanted = animate(pipeline, Text2VideoZero((-24.0, 0.0)), prompt=RED, seed=3, frames=3, steps=3, **HOW)
    assert torch.equal(pixels(animate(pipeline, plan, **HOW)), pixels(wanted))


# --------------------------------------------------------------------------------------------------------------------
# several motion modules


@pytest.fixture
def clip(pipeline):
    def clip(motion, **settings):
        given = parse_settings({"frames": 4} | settings)
        return pixels(animate(pipeline, motion, prompt=RED, seed=3, settings=given, steps=2, **HOW))

    return clip


def test_several_modules_act_in_their_order(clip, motion, other):
    alone, both, turned = clip(motion), clip([motion, other]), clip((other, motion))
    assert not torch.equal(both, alone)
    assert not torch.equal(both, turned)
    assert torch.equal(clip([motion]), alone)
    assert torch.equal(clip([motion, MotionComponent(other, MotionScale(effect=(0.0,)))]), alone)


def test_the_first_module_sets_the_noise_schedule(pipeline, motion, other):
    noisier = MotionComponent(other)
    noisier.schedule = replace(other.schedule, beta_end=0.02)
    seen = []
    with pipeline.unet.register_forward_pre_hook(lambda *_: seen.append(pipeline.scheduler.config.beta_end)):
        for modules in ([motion, noisier], [noisier, motion]):
            animate(pipeline, modules, prompt=RED, frames=1, steps=1, **HOW)
    assert seen == [motion.schedule.beta_end, 0.02]


def test_the_settings_scale_is_that_of_modules_without_one_of_their_own(clip, motion, other):
    half = MotionScale(effect=(0.5,))
    for second in (other, MotionComponent(other)):
        own = MotionComponent(other, half) if second is other else second
        assert torch.equal(clip([motion, second], effect=0.5), clip([MotionComponent(motion, half), own]))
    for name, value in (("effect", 0.5), ("scale", "2"), ("blocks", "up effect 0.5"), ("motion_mask", MASK)):
        with pytest.raises(ClipError, match=f"^{name} would have no effect in this call. Give the components a scale"):
            clip([MotionComponent(motion), MotionComponent(other)], **{name: value})


def test_a_preview_is_without_motion_whatever_the_modules_scale(clip, motion, other):
    plain = clip(motion, preview=True)
    assert torch.equal(clip([motion, MotionComponent(other, MotionScale(effect=(2.0,)))], preview=True), plain)
    assert torch.equal(clip(MotionComponent(other), preview=True), plain)


@pytest.mark.parametrize("wrong", [[], object(), "v3.ckpt", None, [object()], [Text2VideoZero()]], ids=range(6))
def test_what_is_no_motion_module_is_refused(pipeline, wrong):
    with pytest.raises(AnimateDiffError, match=r"[Mm]otion ?[Mm]odule"):
        animate(pipeline, wrong, prompt=RED, frames=2, steps=1, **HOW)


def test_a_plan_of_several_files(clip, pipeline, motion, other, other_file):
    files = [ModuleFile(MODULE), ModuleFile(other_file, effect=0.5, scale=1.2)]
    plan = plan_clip(parse_settings({"frames": 4, "model": str(MODULE)}), Sampling(RED, seed=3, steps=2))
    made = pixels(animate(pipeline, plan.with_files(files, []), **HOW))
    own = MotionComponent(other, MotionScale(scale=(1.2,), effect=(0.5,)))
    assert torch.equal(made, clip([motion, own]))
    panning = pixels(animate(pipeline, plan.with_files(files, [LoraFile(PAN)]), **HOW))
    assert torch.equal(panning, clip([motion, own], motion_loras=str(PAN)))
    assert not torch.equal(panning, made)
