"""sgm's UNet with Stable Diffusion 1.5's layers carries what images and a camera steer a clip with.

It has LDM's names, so that the tests of LDM's UNet are run on it: each kind beside its literal oracle, to 1e-5.
"""

from __future__ import annotations

import pytest
import torch
from engine import test_camera_ctrl as of_cameras
from engine import test_image_encoder as of_i2v
from engine import test_pia as of_pia
from engine import test_sparse_ctrl as of_sparse_ctrl
from support.image_encoder import shared_i2v
from support.motions import shared_motion
from support.pia import pia_state
from support.sgm_host import sgm_unet

pytestmark = pytest.mark.matrix
LDM = "ldm"  # whose names it has
STREAMS, CLIPS = 2, 2


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def unets():
    torch.manual_seed(0)
    return {(LDM, 4): sgm_unet()}


@pytest.fixture(scope="module")
def image():
    return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", of_sparse_ctrl.KINDS)
def test_sparse_ctrl(kind):
    torch.manual_seed(0)
    wide = {LDM: sgm_unet(of_sparse_ctrl.WIDE)}
    of_sparse_ctrl.test_a_call_has_the_residuals_of_the_literal_encoder(wide, LDM, kind, STREAMS, CLIPS)


def test_pia(unets, image):
    of_pia.test_a_call_is_that_of_a_unet_with_nine_channels(unets, pia_state(), image, LDM, STREAMS, CLIPS)


def test_an_image_of_animatelcm_i2v(unets, image):
    of_i2v.test_a_call_is_that_of_a_unet_with_the_literal_features(unets, shared_i2v()[0], image, LDM, STREAMS, CLIPS)


def test_a_camera(unets):
    of_cameras.test_a_call_is_that_of_a_unet_with_the_literal_features(unets, shared_motion("v3"), LDM, STREAMS, CLIPS)
