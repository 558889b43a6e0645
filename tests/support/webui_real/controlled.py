"""Requests beside the real ControlNet extension, and what of its hints reached the rows of the UNet's calls."""

from __future__ import annotations

import base64
import io
import os
import shutil

import numpy
import pytest
import torch
from PIL import Image
from support.motion_files import write_motion_file
from support.webui_real import small_control
from support.webui_real.clips import clip_payload
from support.webui_real.places import REPOSITORY, TROUBLE
from support.webui_real.server import NOT_COPIED, base64_image
from support.webui_real.studio import arrays

STRIPES = base64_image(Image.fromarray(numpy.tile(numpy.uint8([0, 255]).repeat(8), (64, 4))))
UNIT = {"enabled": True, "module": "none", "pixel_perfect": False}
FRAMES = 8
WINDOWS = {"context_length": 4, "overlap": 1}
FEW = {"steps": 2}


def controlled_webui(start_webui, folder, name, **more):
    """The WebUI with AnimateDiff and ControlNet, which is loaded in the order of its folder's name.

    The folders greys and back have an image for each frame.
    """
    given = os.environ.get("CONTROLNET_DIR")
    if not given:
        pytest.skip("CONTROLNET_DIR is not set: the ControlNet extension was not started")
    shutil.copytree(given, folder / name, ignore=shutil.ignore_patterns(*NOT_COPIED))
    server = start_webui(name, extensions=[REPOSITORY, TROUBLE, folder / name], **more)
    write_motion_file(server.motion_modules_dir, "v3")
    for write in (
        small_control.write_control_model,
        small_control.write_adapter,
        small_control.write_lite,
        small_control.write_image_prompt,
    ):
        write(server.models_dir / "ControlNet")
    for images, order in (("greys", 1), ("back", -1)):
        folder = server.data_dir / "in" / images
        folder.mkdir(parents=True)
        for frame in range(FRAMES):
            picture(range(FRAMES)[::order][frame]).save(folder / f"{frame}.png")
    return server


def listed_models(server):
    """The models' names with their hashes, as the extension lists them."""
    listed = server.api("GET", "/controlnet/model_list?update=true").json()["model_list"]
    return {name.partition(" ")[0]: name for name in listed}


def grey(frame):
    return 20 + 25 * frame


def picture(frame):
    return Image.new("RGB", (64, 64), (grey(frame),) * 3)


def with_units(units, clip=None, **payload):
    scripts = {**payload.pop("alwayson_scripts", {}), "ControlNet": {"args": units}}
    if clip is None:
        return {**payload, "alwayson_scripts": scripts}
    return clip_payload(clip, **payload, alwayson_scripts=scripts)


def watched(server, units, clip, *, tab="txt2img", **payload):
    """The reply, and of each call of the UNet the frames of its rows and the greys that reached each unit."""
    scripts = {"Trouble": {"args": [{"control": True}]}}
    request = with_units(units, {"frames": FRAMES, **clip}, **{**FEW, **payload}, alwayson_scripts=scripts)
    answer = getattr(server, tab)(**request)
    seen = arrays(server, "control")
    calls = [(frames_of_rows(x, base), greys) for x, base, greys in zip(*[iter(seen)] * 3, strict=True)]
    assert calls
    return answer, calls


def frames_of_rows(x, base):
    """The frame and the clip of each row: its latents are those of one of the sampler's rows, at another scale."""
    one, other = (rows.reshape(len(rows), -1) for rows in (x, base))
    likeness = (one / numpy.linalg.norm(one, axis=1)[:, None]) @ (other / numpy.linalg.norm(other, axis=1)[:, None]).T
    assert (likeness.max(axis=1) > 0.9999).all(), likeness.max(axis=1)
    return likeness.argmax(axis=1)


def wrong_rows(calls, of_frame=grey, unit=0):
    return sum(
        abs(float(greys[unit][row]) * 255 - of_frame(place % FRAMES)) > 1
        for frames, greys in calls
        for row, place in enumerate(frames)
    )


def embeddings(*seeds):
    """What the preprocessor of an IP-Adapter makes of images, as a client sends it."""
    made = []
    for seed in seeds:
        written = io.BytesIO()
        embedding = torch.randn(1, small_control.EMBEDDING, generator=torch.Generator().manual_seed(seed)) * 3
        torch.save({"image_embeds": embedding}, written)
        made.append(base64.b64encode(written.getvalue()).decode("ascii"))
    return made
