"""Ask the WebUI for a clip, and read clips as a stranger would: with PyAV and Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy
from PIL import Image
from support.webui_real.server import file_bytes

FRAMES = 8
CLIP = {"enable": True, "model": "mm_small_v3.safetensors", "frames": FRAMES, "fps": 8}


def clip_payload(clip: dict | None = None, **payload: object) -> dict:
    """A payload of txt2img or img2img with the AnimateDiff script switched on."""
    scripts = {"AnimateDiff": {"args": [{**CLIP, **(clip or {})}]}, **payload.pop("alwayson_scripts", {})}
    return {**payload, "alwayson_scripts": scripts}


def animate(server, clip: dict | None = None, **payload: object) -> dict:
    """The API's answer to a clip request; raises when it is no 200."""
    return server.txt2img(**clip_payload(clip, **payload))


@dataclass
class Gif:
    """What two independent readers say about a GIF."""

    frames: numpy.ndarray
    milliseconds: float
    loop: int | None
    comment: str

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[2], self.frames.shape[1]


def read_gif(data: bytes) -> Gif:
    with av.open(io.BytesIO(data)) as container:
        frames = numpy.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        milliseconds = container.duration / 1000
    image = Image.open(io.BytesIO(data))
    assert image.format == "GIF"
    assert image.n_frames == len(frames), "the two readers disagree"
    return Gif(frames, milliseconds, image.info.get("loop"), image.info.get("comment", b"").decode())


def clip_of(answer: dict, index: int = 0) -> Gif:
    return read_gif(file_bytes(answer, index))


def apart(one: numpy.ndarray, other: numpy.ndarray) -> float:
    """Mean difference in levels of 255."""
    return float(numpy.abs(one.astype(float) - other.astype(float)).mean())
