"""Requests with images as the start of a clip, and files as base64."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from .double import CLIP, SIDE, shared

FRAMES = 4
PINNED = {**CLIP, "frames": FRAMES, "image": "in/a.png", "last_image": "in/b.png"}
ALONE = {**PINNED, "pin_inversion": 0}
PICTURE = Image.new("RGB", (SIDE, SIDE), (50, 0, 0))
IMG2IMG = {"tab": "img2img", "init_images": [PICTURE]}
TABS = pytest.mark.parametrize("fields", [{}, IMG2IMG], ids=["txt2img", "img2img"])


@pytest.fixture
def few_steps(webui):
    """Of which images are inverted in as many."""
    webui.fields["steps"] = 4


def frames_of(webui, *args, **fields):
    webui.paint(*args, **fields)
    return shared.painted[-1]


def sent(picture):
    written = io.BytesIO()
    picture.save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode("ascii")
