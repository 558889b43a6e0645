"""Clips of an AnimateLCM-I2V model: its module with the features of the image, at its own noise levels."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support.image_encoder import i2v_state
from support.pocket_clips import SIZE, latents_of
from support.source_files import shades
from support.unchanged import Portrait

from lib_animatediff import AnimateDiffError, ControlUnit, MotionComponent, Pin, inject
from lib_animatediff.engine.components.image_encoder import ImageEncoderComponent
from lib_animatediff.request.distilled import SamplerSettings, distillation_of, sampling_for
from motion_module import load_image_encoder, load_motion_module

FRAMES, STEPS, SEED = 4, 2, 11
POCKET = (64, 64, 64, 64)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("i2v")
    state = i2v_state(POCKET)
    save_file(state, folder / "i2v.safetensors")
    motion = {name: tensor for name, tensor in state.items() if "motion_modules" in name}
    save_file(motion, folder / "mm_v2.safetensors")
    save_file(i2v_state(), folder / "small.safetensors")
    for number, image in enumerate(shades(2, SIZE)):
        image.save(folder / f"{number}.png")
    return folder


def unit(files, *keys, name="i2v.safetensors", **options):
    return ControlUnit(files / name, keys=keys or (Pin(0, files / "0.png"),), **options)


@pytest.fixture
def latents(pipeline, monkeypatch):
    """Makes a clip: a function `(motion, *units) -> latents f c h w`."""
    return lambda motion, *units: latents_of(monkeypatch, pipeline, motion, units, {"frames": FRAMES})


@torch.no_grad()
def test_the_latent_of_the_image_the_strengths_and_the_drift_reach_the_unet(pipeline, latents, files, monkeypatch):
    motion, given = load_motion_module(files / "i2v.safetensors", kind="i2v"), []
    init = ImageEncoderComponent.__init__

    def noted(self, encoder, image, strengths, drift):
        given.append((image, strengths, drift))
        init(self, encoder, image, strengths, drift)

    monkeypatch.setattr(ImageEncoderComponent, "__init__", noted)
    before = Portrait(pipeline.unet)
    made = latents(motion, unit(files))
    before.assert_unchanged()
    other = latents(motion, unit(files, weight="0: 1, 3: 0.4", drift=0.2))
    vae, (image, strengths, drift) = pipeline.vae, given[0]
    pixels = torch.tensor(list(shades(1, SIZE)[0].convert("RGB").getdata()), dtype=torch.float32)
    pixels = pixels.reshape(1, SIZE[1], SIZE[0], 3).permute(0, 3, 1, 2) / 127.5 - 1
    wanted = vae.encode(pixels.to(vae.dtype)).latent_dist.mean[0] * vae.config.scaling_factor
    assert (image - wanted).abs().max() <= 1e-3
    assert (tuple(strengths), drift) == ((1, 1, 1, 1), 0.8)
    assert given[1][1:] == (pytest.approx((1, 0.8, 0.6, 0.4)), 0.2)
    assert (made - other).abs().max() > 1e-2
    assert (made - latents(motion, unit(files, Pin(0, files / "1.png")))).abs().max() > 1e-3


@torch.no_grad()
def test_a_call_of_the_pipelines_unet_takes_both_parts_of_a_file(pipeline, files):
    motion, encoder = (
        load_motion_module(files / "i2v.safetensors", kind="i2v"),
        load_image_encoder(files / "i2v.safetensors"),
    )
    own = ImageEncoderComponent(encoder, torch.randn(4, 8, 8))
    x, text = torch.randn(FRAMES, 4, 8, 8), torch.randn(FRAMES, 5, pipeline.unet.config.cross_attention_dim)
    with inject(pipeline.unet, MotionComponent(motion), own, frames=FRAMES):
        assert pipeline.unet(x, 500, encoder_hidden_states=text).sample.isfinite().all()


def test_few_steps_are_chosen_by_the_kind_or_the_name():
    for name, kind in (("AnimateLCM_sd15_i2v.ckpt", None), ("renamed.ckpt", "i2v")):
        row = distillation_of(name, is_module=True, kind=kind)
        assert row.name == "AnimateLCM-I2V"
        assert sampling_for(row, SamplerSettings()) == SamplerSettings("lcm", "trailing", 6, 1.0)
    assert distillation_of("AnimateLCM_sd15_t2v.ckpt", is_module=True).name == "AnimateLCM"


def test_what_cannot_be_right_is_refused_in_a_sentence(latents, files):
    i2v = load_motion_module(files / "i2v.safetensors", kind="i2v")
    plain = load_motion_module(files / "mm_v2.safetensors", kind="v2")
    two = Pin(0, files / "0.png"), Pin(3, files / "1.png")
    wrong = [
        ((i2v,), "AD-Q53"),
        ((plain, unit(files)), "AD-Q53"),
        (([plain, i2v], unit(files)), "AD-Q53"),
        ((i2v, unit(files, *two)), "AD-QB9"),
        ((i2v, unit(files, Pin(2, files / "0.png"))), "AD-QB9"),
        ((i2v, unit(files, preprocessor="canny")), "AD-QC1"),
        ((i2v, unit(files, end=0.5)), "AD-QC1"),
        ((i2v, unit(files, name="small.safetensors")), "AD-QB8"),
        ((i2v, unit(files, encoder=files)), "AD-H70"),
    ]
    for given, code in wrong:
        with pytest.raises(AnimateDiffError) as caught:
            latents(*given)
        assert caught.value.code == code
    with pytest.raises(AnimateDiffError) as caught:
        unit(files, drift=2.0)
    assert caught.value.code == "AD-QB7"
