"""The ControlNet extension beside us: it acts on clips, never on the requests after them, and failures are reported."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from support.webui_double.components import Component
from support.webui_double.denoiser import TOKENS
from support.webui_double.double import CLIP, Script, shared

from motion_module import AnimateDiffError

MARK = 1024.0  # as in its hook.py
AND_LONG = "a cat AND a dog AND a long road"


class Network:
    """What is in the UNet while a request is controlled: the marks that it expects come off, and outputs move."""

    def __init__(self, p, params):
        self.unet = p.sd_model.model.diffusion_model
        self.control_params = params
        self.forward = self.unet.forward
        self.unet.forward = self.controlled

    def controlled(self, x, timesteps=None, context=None, **kwargs):
        marks = context[:, :1]
        assert (marks.abs() == MARK).all()
        assert (context[:, 1:].abs() < MARK).all()
        shared.tokens.append(context.shape[1])
        return self.forward(x, timesteps, context=context[:, 1:], **kwargs)

    def restore(self):
        del self.unet.forward


class ControlNet(Script):
    """The extension's script, in the order of its hooks; what goes wrong in ``process`` is swallowed."""

    def __init__(self):
        self.latest_network = None

    def title(self):
        return "ControlNet"

    def ui(self, is_img2img):
        return [Component(value=SimpleNamespace(enabled=False)) for _ in range(2)]

    def process(self, p, *units):
        self.restore()
        images = [unit.image for unit in units if unit.enabled]
        if images and None not in images:
            self.latest_network = Network(p, images)

    def postprocess(self, p, processed, *units):
        self.restore()

    def restore(self):
        if self.latest_network is not None:
            self.latest_network.restore()
            self.latest_network = None


def mark_conditions(params):
    if not shared.marks:
        return
    for name, mark in (("text_cond", MARK), ("text_uncond", -MARK)):
        cond = getattr(params, name)
        setattr(params, name, torch.cat([torch.full_like(cond[:, :1], mark), cond], dim=1))


@pytest.fixture
def controlled(webui):
    """Renders with units whose images are given; None is an image that is missing."""
    webui.load_script(ControlNet)
    shared.cfg_denoiser_callbacks.insert(0, mark_conditions)
    shared.tokens, shared.marks = [], False
    _ours, theirs = webui.tabs["txt2img"].alwayson_scripts

    def paint(*images, clip=CLIP, **fields):
        p = webui.request(clip, **fields)
        arguments = list(p.script_args)
        units = [SimpleNamespace(enabled=True, image=image) for image in images]
        arguments[theirs.args_from : theirs.args_from + len(units)] = units
        p.script_args, shared.marks = tuple(arguments), bool(images) and None not in images
        try:
            return webui.double.process_images(p)
        finally:
            shared.marks = False

    return paint


@pytest.mark.parametrize("trouble", [RuntimeError("no memory"), KeyboardInterrupt()])
def test_after_a_failure_the_next_image_of_the_other_tab_is_not_controlled(webui, controlled, trouble):
    wanted = webui.picture()
    shared.during_sampling = Mock(side_effect=trouble)
    with pytest.raises(type(trouble)):
        controlled("image")
    shared.during_sampling = None
    assert "forward" not in vars(webui.checkpoint.model.diffusion_model)
    assert webui.picture() == wanted


def test_after_a_refusal_too(webui, controlled):
    with pytest.raises(AnimateDiffError, match="frames"):
        controlled("image", clip={**CLIP, "frames": "many"})
    assert "forward" not in vars(webui.checkpoint.model.diffusion_model)
    assert webui.tabs["txt2img"].alwayson_scripts[1].latest_network is None


def test_marks_are_not_repeated_with_the_prompts(webui, controlled):
    """Three parts, one with two chunks: uncond is repeated once, and each row keeps the one mark of ControlNet."""
    wanted = webui.paint(CLIP, prompt=AND_LONG).images[0].tobytes()
    assert controlled("image", prompt=AND_LONG).images[0].tobytes() == wanted
    assert set(shared.tokens) == {2 * TOKENS + 1}


@pytest.mark.parametrize(("images", "words"), [([None], "ControlNet has a unit that"), ([None] * 2, "2 units that")])
def test_units_that_failed_are_reported(controlled, images, words):
    told = controlled(*images)
    assert words in told.comments
    assert any(words in note for note in told.extra_generation_params["AnimateDiff notes"])


@pytest.mark.parametrize("images", [[], ["image"], ["image", "image"]])
def test_nothing_is_reported_of_units_that_act(controlled, images):
    assert "ControlNet" not in controlled(*images).comments
