"""Clips beside a double of the ControlNet extension: units, their images, and what of these acted on each row."""

from __future__ import annotations

import sys

from PIL import Image
from support.webui_double.controlnet import ControlNet, Unit, mark_conditions, units_module
from support.webui_double.double import CLIP, SIDE, shared

AND_LONG = "a cat AND a dog AND a long road"
FRAMES = 5
CLIP_OF_5 = {**CLIP, "frames": FRAMES, "effect": 0}
IMAGE = Image.new("RGB", (SIDE, SIDE), (90, 90, 90))
NAMED = {**CLIP_OF_5, "control_images": "0: in/walk"}
WINDOWS = {"context_length": 3, "overlap": 1}


def level(frame):
    return 20 * frame + 10


def picture(frame):
    return Image.new("RGB", (SIDE, SIDE), (level(frame),) * 3)


def painting_controlled(webui, monkeypatch):
    """Renders with units."""
    monkeypatch.setitem(sys.modules, "internal_controlnet.external_code", units_module())
    webui.load_script(ControlNet)
    shared.cfg_denoiser_callbacks.insert(0, mark_conditions)
    shared.cfg_denoiser_callbacks.insert(0, lambda params: shared.base.append(params.x.clone()))
    shared.tokens, shared.marks, shared.controlled, shared.base, shared.encoded = [], False, [], [], 0

    def paint(*units, clip=CLIP, **fields):
        p = webui.request(clip, **fields)
        theirs = p.scripts.alwayson_scripts[1]
        arguments = list(p.script_args)
        made = [unit if isinstance(unit, dict) else Unit(**{"enabled": True, **vars(unit)}) for unit in units]
        arguments[theirs.args_from : theirs.args_from + len(units)] = made
        p.script_args = tuple(arguments)
        shared.marks = True
        given = list(p.script_args)
        try:
            return webui.double.process_images(p)
        finally:
            shared.marks = False
            if not shared.swallowed:
                assert list(p.script_args) == given

    return paint


def write_walk(webui):
    """A folder in which image i is `level(i)` bright."""
    folder = webui.outputs.parent / "in" / "walk"
    folder.mkdir(parents=True)
    for frame in range(FRAMES):
        picture(frame).save(folder / f"{frame}.png")
    return folder


def unit(**fields):
    return Unit(enabled=True, **fields)


def has_rows(base, x):
    return base.shape[1:] == x.shape[1:] and all((base == row).flatten(1).all(1).any() for row in x)


def wrong_rows(of_frame, unit=0):
    """Rows of calls whose control differs from that of their frame: the latents tell the frame."""
    wrong = found = 0
    for x, seen in shared.controlled:
        base = next(base for base in reversed(shared.base) if has_rows(base, x))
        for row, value in zip(x, seen[unit], strict=True):
            (place,) = (base == row).flatten(1).all(1).nonzero().flatten().tolist()
            found += 1
            wrong += abs(float(value) - of_frame(place % FRAMES, place // FRAMES)) > 1e-5
    assert found
    return wrong


def hint(frame, _clip=0):
    return level(frame) / 255


def acted(unit=0):
    """Of each frame, what of its hint acted in each call."""
    seen = {frame: [] for frame in range(FRAMES)}
    for x, values in shared.controlled:
        base = next(base for base in reversed(shared.base) if has_rows(base, x))
        for row, value in zip(x, values[unit], strict=True):
            (place,) = (base == row).flatten(1).all(1).nonzero().flatten().tolist()
            seen[place % FRAMES].append(float(value))
    return seen
