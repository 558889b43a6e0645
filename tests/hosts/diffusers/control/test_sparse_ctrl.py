"""Clips that a SparseCtrl encoder steers: as diffusers' own UNet makes them with the literal encoder's residuals."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.pocket_clips import CFG, RED, SIZE
from support.source_files import shades
from support.sparse_ctrl import as_mixed, literal_residuals, random_state
from support.unchanged import Portrait

from lib_animatediff import AnimateDiffError, ControlUnit, Pin
from lib_animatediff.engine.components.sparse_ctrl import ResidualCache
from lib_animatediff.hosts.diffusers import animate as module
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.plan import Sampling, add_controls, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.video.source import Source
from motion_module.sparse_ctrl.network import SparseCtrl

FRAMES, STEPS, SEED = 4, 2, 11
POCKET = {"widths": (64, 64, 64, 64), "context": 64}


def state_of(kind):
    """Small residuals, so that two steps do not leave the numbers that the sampler is made for."""
    state = random_state(kind, **POCKET)
    return {
        name: 0.1 * each if name.startswith("controlnet_") and "cond" not in name else each
        for name, each in state.items()
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparse")
    save_file(as_mixed(state_of("rgb")), folder / "rgb.safetensors")
    save_file(state_of("scribble"), folder / "scribble.safetensors")
    save_file(random_state("rgb"), folder / "other_base.safetensors")
    for number, image in enumerate(shades(2, SIZE)):
        image.save(folder / f"{number}.png")
    drawing = Image.new("RGB", SIZE, "black")
    drawing.paste("white", (10, 10, 40, 14))
    drawing.save(folder / "drawing.png")
    Image.new("RGB", SIZE, "white").save(folder / "page.png")
    Image.new("RGB", SIZE, (200, 30, 30)).save(folder / "red.png")
    return folder


def unit(files, model="rgb.safetensors", keys=((0, "0.png"), (3, "1.png")), **options):
    return ControlUnit(files / model, keys=tuple(Pin(frame, files / name) for frame, name in keys), **options)


@pytest.fixture
def latents(pipeline, motion, monkeypatch):
    """Makes a clip: a function `(*units, **settings) -> latents f c h w`."""

    def sampled(*units, say=lambda _line: None, **settings):
        seen = []
        monkeypatch.setattr(module, "decode_frames", lambda _pipeline, latents, *_: seen.append(latents.clone()) or [])
        monkeypatch.setattr(module, "_finish", lambda images, plan, output: images)
        checked = parse_settings({"frames": FRAMES} | settings)
        words = {"prompt": RED, "negative_prompt": "blue", "seed": SEED, "size": SIZE, "steps": STEPS, "cfg": CFG}
        animate(pipeline, motion, settings=checked, controls=units, say=say, **words)
        return seen[0]

    return sampled


@contextmanager
def literally(pipeline, kind, conditions):
    """Every call of the UNet has the residuals of the literal encoder, added by diffusers itself."""
    state, forward = state_of(kind), pipeline.unet.forward

    def guided(sample, timestep, encoder_hidden_states, **options):
        parts = [
            literal_residuals(state, conditions, timestep.expand(FRAMES), encoder_hidden_states[at], FRAMES)
            for at in (slice(first, first + FRAMES) for first in range(0, len(sample), FRAMES))
        ]
        skips = [torch.cat(each) for each in zip(*(skips for skips, _ in parts), strict=True)]
        options |= {
            "down_block_additional_residuals": skips,
            "mid_block_additional_residual": torch.cat([middle for _, middle in parts]),
        }
        return forward(sample, timestep, encoder_hidden_states=encoder_hidden_states, **options)

    pipeline.unet.forward = guided
    try:
        yield
    finally:
        del pipeline.unet.forward


def pixels(path):
    image = Image.open(path).convert("RGB")
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(64, 64, 3).permute(2, 0, 1) / 255


@torch.no_grad()
def test_a_clip_has_the_literal_encoders_residuals(pipeline, latents, files):
    before = Portrait(pipeline.unet)
    got = latents(unit(files))
    before.assert_unchanged()
    vae = pipeline.vae
    images = torch.stack([2 * pixels(files / f"{number}.png") - 1 for number in (0, 1)])
    encoded = vae.encode(images).latent_dist.mean * vae.config.scaling_factor
    with literally(pipeline, "rgb", {0: encoded[0], 3: encoded[1]}):
        wanted = latents()
    assert (got - wanted).abs().max() <= 1e-4
    assert (got - latents()).abs().max() > 1e-2
    got = latents(unit(files, "scribble.safetensors", ((1, "drawing.png"),)))
    with literally(pipeline, "scribble", {1: pixels(files / "drawing.png")}):
        wanted = latents()
    assert (got - wanted).abs().max() <= 1e-4


def test_strength_zero_is_bit_for_bit_the_clip_without(latents, files):
    assert torch.equal(latents(unit(files, weight="0")), latents())


def test_further_rounds_of_freeinit_take_the_results_of_the_first(latents, files, monkeypatch):
    seen, forward = [], SparseCtrl.forward
    monkeypatch.setattr(SparseCtrl, "forward", lambda self, *args: seen.append(1) or forward(self, *args))
    settings = {"freeinit_enable": True, "freeinit_iters": 2, "freeinit_coarse": False}
    got = latents(unit(files), **settings)
    assert len(seen) == STEPS
    monkeypatch.setattr(ResidualCache, "get_or", lambda _self, _key, _given, make: make())
    assert torch.equal(got, latents(unit(files), **settings))
    assert len(seen) == 3 * STEPS


def test_a_preview_without_a_key_says_so(latents, files):
    lines = []
    latents(unit(files, keys=((3, "1.png"),)), preview=True, say=lines.append)
    assert any("rgb.safetensors has no image at a rendered frame" in line for line in lines)


def test_a_plan_is_read_back_with_its_window_rule(files):
    plan = add_controls(plan_clip(parse_settings({"frames": 4}), Sampling()), [unit(files, without_key="none")])
    assert plan_from_json(plan.to_json()).controls == plan.controls
    old = unit(files).to_json()
    assert "without_key" not in old  # so that recipes of before have the same form


WRONG = {
    "another base": ({"model": "other_base.safetensors"}, "AD-Q20"),
    "a preprocessor for images": ({"preprocessor": "canny"}, "AD-Q22"),
    "a coloured drawing": ({"model": "scribble.safetensors", "keys": ((0, "red.png"),)}, "AD-Q24"),
    "a light drawing": ({"model": "scribble.safetensors", "keys": ((0, "page.png"),)}, "AD-Q25"),
    "a late key": ({"keys": ((40, "0.png"),)}, "AD-H17"),
    "another window rule": ({"without_key": "far"}, "AD-Q26"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_right_is_refused_in_a_sentence(latents, files, what):
    options, code = WRONG[what]

    def attempt():
        latents(unit(files, **options))

    with pytest.raises(AnimateDiffError) as caught:
        attempt()
    assert caught.value.code == code


def test_a_source_and_two_of_one_kind_are_refused(latents, files):
    with pytest.raises(AnimateDiffError) as caught:
        latents(ControlUnit(files / "rgb.safetensors", Source(files / "0.png")))
    assert caught.value.code == "AD-Q21"
    with pytest.raises(AnimateDiffError) as caught:
        latents(unit(files), unit(files))
    assert caught.value.code == "AD-Q23"
