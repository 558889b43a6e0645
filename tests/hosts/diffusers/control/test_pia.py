"""Clips of a PIA model: as the checkpoint makes them with nine channels and the norms of v1."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.pia import pia_state, widened
from support.pocket_clips import SIZE, latents_of
from support.source_files import shades
from support.unchanged import Portrait
from torch import nn

from lib_animatediff import AnimateDiffError, ControlUnit, Pin
from lib_animatediff.request.control.affinity import affinity, as_weights
from motion_module import load_motion_module

FRAMES, STEPS, SEED = 4, 2, 11
POCKET = (64, 64, 64, 64)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pia")
    state = pia_state(POCKET)
    save_file(state, folder / "pia.safetensors")
    # v1 has its norms, too, and the same sites; the kind is in the name
    motion = {name: tensor for name, tensor in state.items() if "motion_modules" in name}
    save_file(motion, folder / "mm_sd_v14_v1.safetensors")
    for number, image in enumerate(shades(2, SIZE)):
        image.save(folder / f"{number}.png")
    return folder


def unit(files, *keys, **options):
    options.setdefault("weight", as_weights(affinity("medium", FRAMES)))
    return ControlUnit(files / "pia.safetensors", keys=keys or (Pin(0, files / "0.png"),), **options)


@pytest.fixture
def latents(pipeline, monkeypatch):
    """Makes a clip: a function `(motion, *units) -> latents f c h w`."""
    return lambda motion, *units: latents_of(monkeypatch, pipeline, motion, units, {"frames": FRAMES})


class Wide(nn.Module):
    """The convolution of nine channels, which gets mask and image beside each row of latents."""

    def __init__(self, convolution, weight, image, values):
        super().__init__()
        self.convolution, self.image, self.values = widened(convolution, weight), image, values
        self.in_channels, self.out_channels = 4, convolution.out_channels

    def forward(self, x):
        masks = torch.tensor(self.values).to(x).repeat(len(x) // len(self.values)).view(-1, 1, 1, 1)
        image = self.image.expand(len(x), -1, -1, -1)
        return self.convolution(torch.cat([x, masks.expand(-1, 1, *x.shape[2:]), image], 1))


@pytest.fixture
def in_double(pipeline):
    """The pipeline in double precision, so that rounding explains no difference, and as before afterwards."""
    parts = ("unet", "vae", "text_encoder")
    former = {name: getattr(pipeline, name) for name in parts}
    for name, part in former.items():
        setattr(pipeline, name, deepcopy(part).double())
    yield
    for name, part in former.items():
        setattr(pipeline, name, part)


@contextmanager
def literally(pipeline, files, values):
    pixels = torch.frombuffer(bytearray(Image.open(files / "0.png").convert("RGB").tobytes()), dtype=torch.uint8)
    pixels = pixels.reshape(1, 64, 64, 3).permute(0, 3, 1, 2) / 127.5 - 1
    vae, former = pipeline.vae, pipeline.unet.conv_in
    image = vae.encode(pixels.to(vae.dtype)).latent_dist.mean * vae.config.scaling_factor
    pipeline.unet.conv_in = Wide(former, pia_state(POCKET)["conv_in.weight"], image, values)
    try:
        yield
    finally:
        pipeline.unet.conv_in = former


@torch.no_grad()
def test_a_clip_is_that_of_nine_channels(pipeline, latents, files, in_double):
    before = Portrait(pipeline.unet)
    got = latents(load_motion_module(files / "pia.safetensors", kind="pia"), unit(files))
    before.assert_unchanged()
    plain = load_motion_module(files / "mm_sd_v14_v1.safetensors", kind="v1")
    with literally(pipeline, files, affinity("medium", FRAMES)):
        wanted = latents(plain)
    assert (got - wanted).abs().max() <= 1e-9
    assert (got - latents(plain)).abs().max() > 1e-2


def test_what_cannot_be_right_is_refused_in_a_sentence(latents, files):
    pia = load_motion_module(files / "pia.safetensors", kind="pia")
    plain = load_motion_module(files / "mm_sd_v14_v1.safetensors", kind="v1")
    two = Pin(0, files / "0.png"), Pin(3, files / "1.png")
    wrong = [
        ((pia,), "AD-Q53"),
        ((plain, unit(files)), "AD-Q53"),
        (([plain, pia], unit(files)), "AD-Q53"),
        ((pia, unit(files, *two)), "AD-Q50"),
        ((pia, unit(files, preprocessor="canny")), "AD-Q51"),
        ((pia, unit(files, end=0.5)), "AD-Q51"),
        ((pia, unit(files, weight="1.5")), "AD-Q42"),
    ]
    for given, code in wrong:
        with pytest.raises(AnimateDiffError) as caught:
            latents(*given)
        assert caught.value.code == code
