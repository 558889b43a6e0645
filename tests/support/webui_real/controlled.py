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
from safetensors.torch import load_file
from support.motion_files import write_motion_file
from support.webui_real import small_control, small_control_kinds
from support.webui_real.clips import clip_payload
from support.webui_real.places import REPOSITORY, TROUBLE
from support.webui_real.server import NOT_COPIED, base64_image
from support.webui_real.small_sdxl import NO_DOWNLOAD, write_sdxl_checkpoint
from support.webui_real.studio import arrays

STRIPES = base64_image(Image.fromarray(numpy.tile(numpy.uint8([0, 255]).repeat(8), (64, 4))))
UNIT = {"enabled": True, "module": "none", "pixel_perfect": False}
FRAMES = 8
WINDOWS = {"context_length": 4, "overlap": 1}
FEW = {"steps": 2}
ALL_MODELS_KEPT = {"control_net_model_cache_size": 10}  # as many as its setting allows
SECOND = "_second"  # ends the name of a control model's copy


def controlled_webui(start_webui, folder, name, **more):
    """The WebUI with AnimateDiff and ControlNet, which is loaded in the order of its folder's name.

    The folders greys and back have an image for each frame. There is an SDXL checkpoint, too.
    """
    given = os.environ.get("CONTROLNET_DIR")
    if not given:
        pytest.skip("CONTROLNET_DIR is not set: the ControlNet extension was not started")
    shutil.copytree(given, folder / name, ignore=shutil.ignore_patterns(*NOT_COPIED))
    extensions = [REPOSITORY, TROUBLE, folder / name]
    server = start_webui(name, extensions=extensions, settings={**NO_DOWNLOAD, **ALL_MODELS_KEPT}, **more)
    for kind in ("v3", "hotshot"):
        write_motion_file(server.motion_modules_dir, kind)
    write_sdxl_checkpoint(server.models_dir / "Stable-diffusion")
    small_control.write_sdxl_models(server.models_dir / "ControlNet")
    server.api("POST", "/sdapi/v1/refresh-checkpoints").raise_for_status()
    for write in (
        small_control.write_control_model,
        small_control.write_adapter,
        small_control.write_lite,
        small_control.write_image_prompt,
        small_control_kinds.write_kinds,
    ):
        write(server.models_dir / "ControlNet")
    for file in [*(server.models_dir / "ControlNet").iterdir()]:
        # The extension has one object for each file, so that two units of a kind need two files.
        shutil.copy(file, file.with_stem(f"{file.stem}{SECOND}"))
    for images, order in (("greys", 1), ("back", -1)):
        folder = server.data_dir / "in" / images
        folder.mkdir(parents=True)
        for frame in range(FRAMES):
            picture(range(FRAMES)[::order][frame]).save(folder / f"{frame}.png")
    server.api("GET", "/trouble/freeze")
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


def wrong_rows(calls, of_frame=grey, unit=0, count=FRAMES):
    """Rows that show another number than their frame's, of clips of ``count`` frames."""
    return sum(
        abs(float(greys[unit][row]) * 255 - of_frame(place % count)) > 1
        for frames, greys in calls
        for row, place in enumerate(frames)
    )


def embedding(seed):
    """What an encoder makes of an image."""
    return torch.randn(1, small_control.EMBEDDING, generator=torch.Generator().manual_seed(seed)) * 3


def first_number(file, seed):
    """The first number of the first token that an IP-Adapter makes of an embedding."""
    weights = {name: each.float() for name, each in load_file(file).items() if name.startswith("image_proj")}
    width = len(weights["image_proj.norm.weight"])
    tokens = embedding(seed) @ weights["image_proj.proj.weight"].T + weights["image_proj.proj.bias"]
    norm = weights["image_proj.norm.weight"], weights["image_proj.norm.bias"]
    return float(torch.nn.functional.layer_norm(tokens[0, :width], (width,), *norm)[0])


def embeddings(*seeds):
    """What the preprocessor of an IP-Adapter makes of images, as a client sends it."""
    made = []
    for seed in seeds:
        written = io.BytesIO()
        torch.save({"image_embeds": embedding(seed)}, written)
        made.append(base64.b64encode(written.getvalue()).decode("ascii"))
    return made
