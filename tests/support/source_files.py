"""Sources of clips for tests: films with sound whose clicks can be found again, OpenEXR images, numbered frames."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy
from PIL import Image

CLICKS = (0.25, 0.75, 1.25, 1.75, 2.25, 2.75)  # seconds
GREY = 8  # levels from frame to frame
_CLICK_SAMPLES, _LOUD, _PIECE = 200, 0.3, 1000


def shades(count, size=(64, 64)):
    """Frame i is i * GREY bright."""
    return [Image.new("RGB", size, (index * GREY,) * 3) for index in range(count)]


def numbers(images):
    """The numbers of such frames, whatever a lossy codec did to them."""
    return [round(image.convert("RGB").getpixel((image.width // 2, image.height // 2))[0] / GREY) for image in images]


def write_film_with_sound(path, codec, *, rate=48_000, frames=30, fps=10):
    """A film of numbered frames, with clicks at `CLICKS`, as long as the sound."""
    with av.open(str(path), "w") as container:
        film = container.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=fps)
        film.width, film.height, film.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream(codec, rate=rate)
        sound.codec_context.layout = "stereo"
        for index, picture in enumerate(shades(frames)):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
        samples = _clicking(frames * rate // fps, rate)
        for begin in range(0, samples.shape[1], _PIECE):
            piece = numpy.ascontiguousarray(samples[:, begin : begin + _PIECE])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def _clicking(count, rate):
    samples = numpy.zeros((2, count), dtype="float32")
    click = 0.9 * numpy.sin(numpy.arange(_CLICK_SAMPLES) * 0.3)
    for seconds in CLICKS:
        begin = round(seconds * rate)
        if begin + _CLICK_SAMPLES <= count:
            samples[:, begin : begin + _CLICK_SAMPLES] = click
    return samples


def clicks_of(path):
    """Seconds of the clicks since the first frame of the film, and the end of the sound."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        zero = float(first.pts * first.time_base)
    found, end = [], 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            values = numpy.abs(frame.to_ndarray()).reshape(-1, frame.samples).max(0)
            begin = float(frame.pts * frame.time_base) - zero
            for place in numpy.nonzero(values > _LOUD)[0]:
                seconds = begin + place / frame.sample_rate
                if not found or seconds - found[-1] > 0.1:
                    found.append(seconds)
            end = begin + frame.samples / frame.sample_rate
    return found, end


def write_exr(path, linear, alpha=None):
    """An uncompressed OpenEXR file of 32-bit floats, from ``h w 3`` of linear light and ``h w`` of alpha."""
    height, width, _ = linear.shape
    planes = {"B": linear[..., 2], "G": linear[..., 1], "R": linear[..., 0]}
    planes = planes if alpha is None else {"A": alpha, **planes}

    def attribute(name, kind, data):
        return f"{name}\0{kind}\0".encode() + struct.pack("<i", len(data)) + data

    channels = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", 2, 0, 1, 1) for name in planes) + b"\0"
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    head = struct.pack("<ii", 20000630, 2) + b"".join(
        (
            attribute("channels", "chlist", channels),
            attribute("compression", "compression", b"\0"),
            attribute("dataWindow", "box2i", box),
            attribute("displayWindow", "box2i", box),
            attribute("lineOrder", "lineOrder", b"\0"),
            attribute("pixelAspectRatio", "float", struct.pack("<f", 1)),
            attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
            attribute("screenWindowWidth", "float", struct.pack("<f", 1)),
            b"\0",
        )
    )
    lines = []
    for row in range(height):
        data = b"".join(plane[row].astype("<f4").tobytes() for plane in planes.values())
        lines.append(struct.pack("<ii", row, len(data)) + data)
    begin = len(head) + 8 * height
    places = [begin + sum(map(len, lines[:row])) for row in range(height)]
    path.write_bytes(head + struct.pack(f"<{height}Q", *places) + b"".join(lines))
    return path


def srgb(linear):
    """Linear light as sRGB, 0 to 1: IEC 61966-2-1."""
    return numpy.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
