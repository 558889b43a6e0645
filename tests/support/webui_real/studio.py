"""Ask a WebUI with the trouble extension for clips, their frames before any palette, and what is in the model."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy
from PIL import Image
from support.webui_real.clips import FRAMES, animate, clip_payload
from support.webui_real.server import PAYLOAD, file_bytes, pixels

VISIBLE = 4.0  # levels of 255
HIRES = {"enable_hr": True, "hr_scale": 2, "denoising_strength": 0.7}
UNET = {"layer": "model.diffusion_model", "call": 0}
FLOAT_ORDER = 2e-3  # of the range; plain pictures of the small SDXL model move by 9e-4 with another batch split


def portrait(server) -> dict:
    return server.api("GET", "/trouble/portrait").json()


def decoded(server) -> numpy.ndarray:
    """The frames of the last request as the model made them, float32 in 0..1, channels first."""
    return numpy.load(io.BytesIO(server.api("GET", "/trouble/decoded").content))


def frames_of(server, clip: dict | None = None, **payload) -> numpy.ndarray:
    animate(server, clip, **payload)
    return decoded(server)


def with_text(server, clip: dict | None = None, **payload) -> tuple[numpy.ndarray, str]:
    """A clip's frames as the model made them, and its infotext."""
    text, *_ = texts_of(animate(server, clip, **payload))
    return decoded(server), text


def texts_of(answer: dict) -> list[str]:
    return json.loads(answer["info"])["infotexts"]


def trouble(**command) -> dict:
    """A command to the trouble extension, as a part of a request."""
    return {"alwayson_scripts": {"Trouble": {"args": [command]}}}


def watched(server, ask: Callable[[], object], clip: dict | None = None, **payload) -> list:
    """What `ask` returns, over and over, while a clip is made."""
    painting = threading.Thread(target=animate, args=(server, clip), kwargs=payload)
    painting.start()
    told = []
    while painting.is_alive():
        told.append(ask())
    return told


@contextmanager
def same_picture_after(server, **payload) -> Iterator[None]:
    """The next plain picture is byte-identical to the one before."""
    picture = file_bytes(server.txt2img(**payload))
    yield
    assert file_bytes(server.txt2img(**payload)) == picture


@contextmanager
def left_as_it_was(server, **payload) -> Iterator[None]:
    """Nothing in the model changes, and the next plain picture is byte-identical."""
    with same_picture_after(server, **payload):
        before = portrait(server)
        assert not hooks_in_the_unet(before)
        yield
        if server.host.is_patched:  # a LoRA stays in the weights until they are loaded again
            server.txt2img(**payload)
        assert portrait(server) == before


def conditions_of(server, clip: dict | None = None, **payload) -> list[numpy.ndarray]:
    """What each call of the UNet is given of the text, for a clip: ``rows tokens width``, cond before uncond."""
    animate(server, clip, **payload, **trouble(conditions=True))
    return arrays(server, "conditions")


def arrays(server, name: str) -> list[numpy.ndarray]:
    with numpy.load(io.BytesIO(server.api("GET", f"/trouble/{name}").content)) as held:
        return [held[f"arr_{number}"] for number in range(len(held.files))]


def preview_of(server, clip: dict | None = None, **payload) -> numpy.ndarray:
    """The first frame without motion, on the noise levels of the clip, as the model made it."""
    (picture,) = frames_of(server, {**(clip or {}), "preview": True}, **payload)
    return picture


def sent_back(server, answer: dict, **payload) -> numpy.ndarray:
    return made_from(server, texts_of(answer)[0], **payload)


def made_from(server, text: str, **payload) -> numpy.ndarray:
    """The frames that a clip's own text, sent back as infotext, makes."""
    server.from_infotext(text, **payload)
    return decoded(server)


def hooks_in_the_unet(told: dict) -> list[str]:
    return [name for name in told["hooks"] if name.startswith("model.diffusion_model")]


def plain_batch(server, **payload) -> numpy.ndarray:
    """The same seeds as a batch of plain pictures."""
    answer = server.txt2img(batch_size=FRAMES, **payload)
    first = len(answer["images"]) - FRAMES  # a grid may come first
    return numpy.stack([pixels(answer, first + i) for i in range(FRAMES)])


def refused(server, clip: dict | None = None, **payload) -> str:
    """The reason that the API gives for a 422; there is no picture, neither in the reply nor on the disk."""
    before = sorted(server.outputs_dir.rglob("*"))
    response = server.api("POST", "/sdapi/v1/txt2img", {**PAYLOAD, **clip_payload(clip, **payload)})
    assert response.status_code == 422, response.text
    assert "images" not in response.json()
    assert sorted(server.outputs_dir.rglob("*")) == before
    return response.json()["detail"]


def counted(server, clip: dict, interrupt_at: int = 0, **payload) -> tuple[numpy.ndarray, int]:
    """A clip's frames and how often the UNet was called; interrupted in one of the calls, if asked for."""
    frames = frames_of(server, clip, **payload, **trouble(interrupt_at={**UNET, "call": interrupt_at}))
    return frames, server.api("GET", "/trouble/calls").json()


def painted(size: int = 64) -> Image.Image:
    """A picture with something to see in every part."""
    ramp = numpy.linspace(0, 255, size, dtype=numpy.uint8)
    return Image.fromarray(numpy.stack(numpy.broadcast_arrays(ramp[:, None], ramp[None], ramp[::-1, None]), axis=-1))
