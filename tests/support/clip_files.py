"""Small clips for tests, and what independent readers say about files."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from fractions import Fraction

import av
import numpy
import pytest
from PIL import Image, ImageChops, ImageSequence, ImageStat

from lib_animatediff import AnimateDiffError
from lib_animatediff.video import Recipe
from lib_animatediff.video.avif import need_avif

RED, BLUE = (250, 10, 20), (12, 20, 199)
ODD = (63, 65)
PROMPT = "ein Füchslein, 狐が走る 🦊, (masterpiece:1.2)\nsecond line"
INFOTEXT = (
    f'{PROMPT}\nNegative prompt: "blurry"\nSteps: 20, Sampler: Euler a, Seed: 5, AnimateDiff: "model: mm.ckpt, fps: 8"'
)
DATA = {"seed": 5, "prompt": PROMPT, "deep": [{"a": 1.25, "b": None}, True, '\\ " \n'], "big": 2**60}
RECIPE = Recipe(INFOTEXT, DATA)


def moving_bar(count, size=ODD, mode="RGB"):
    """Red pictures with a blue bar at a place of its own in each."""
    frames = [Image.new(mode, size, RED) for _ in range(count)]
    for index, frame in enumerate(frames):
        left = index % (size[0] - 8)
        frame.paste(BLUE, (left, 0, left + 8, size[1]))
    return frames


def smooth(count, size=(64, 64)):
    """Colour ramps that move, as photographs have them."""
    frames = []
    for index in range(count):
        red = Image.linear_gradient("L").resize(size)
        green = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize(size)
        blue = Image.new("L", size, 40 + 150 * index // max(count, 1))
        frames.append(Image.merge("RGB", (red, green, blue)))
    return frames


def transparent(count, size=64):
    """A blue thing that moves over nothing."""
    frames = [Image.new("RGBA", (size, size), (*RED, 0)) for _ in range(count)]
    for index, frame in enumerate(frames):
        frame.paste((*BLUE, 255), (index, 0, index + size // 2, size))
    return frames


def pillows(path):
    """Pictures and milliseconds as Pillow reads them."""
    with Image.open(path) as file:
        return [(frame.convert("RGB"), file.info.get("duration")) for frame in ImageSequence.Iterator(file)]


def pyavs(path):
    """Pictures and seconds as PyAV reads them; its own conversion, which versions before 17 get wrong, is not used."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return [(frame.width, frame.height, frame.pts * stream.time_base) for frame in file.decode(stream)]


def ffprobes(path):
    """What ffprobe says about the first stream and the container; skips where there is none."""
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe on the path")
    command = "ffprobe -v error -count_frames -show_streams -show_format -of json".split()
    done = subprocess.run([*command, path], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    return told["streams"][0], told["format"]


def ffmpegs(path, size):
    """The first picture as ffmpeg decodes it, by the colour tags; skips where there is none."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on the path")
    flags = "scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    command = ["ffmpeg", "-v", "error", "-i", path, "-frames:v", "1", "-vf", flags]
    done = subprocess.run([*command, *"-f rawvideo -pix_fmt rgb24 -".split()], capture_output=True, check=True)
    return Image.frombytes("RGB", size, done.stdout)


def psnr(one, other):
    """Peak signal to noise ratio of two pictures in dB."""
    squares = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).sum2
    return 10 * math.log10(255**2 * 3 * one.width * one.height / max(sum(squares), 1e-9))


def worst(one, other):
    """The greatest difference of any pixel in any colour."""
    return max(high for _, high in ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getextrema())


def skip_without_avif(key):
    """Skip where neither Pillow nor its plugin can do AVIF."""
    if key == "avif":
        try:
            need_avif()
        except AnimateDiffError as error:
            pytest.skip(str(error))


def write_film(path, pictures, *, times=None, codec="mpeg4", pix_fmt="yuv420p", **texts):
    """A video by PyAV, frames at given milliseconds, or evenly; texts are the container's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata.update(texts)
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = pix_fmt
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_image(picture)
            if picture.mode == "RGBA":
                frame = av.VideoFrame.from_ndarray(numpy.asarray(picture), format="rgba")
            frame = frame.reformat(format=pix_fmt)
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


TURNS = {
    0: (0x10000, 0, 0, 0, 0x10000, 0),
    90: (0, 0x10000, 0, -0x10000, 0, 0),
    180: (-0x10000, 0, 0, 0, -0x10000, 0),
    270: (0, -0x10000, 0, 0x10000, 0, 0),
}


def turned(path, angle):
    """A video whose track says that it is to be turned clockwise."""

    def stored(values):
        return b"".join((value & 0xFFFFFFFF).to_bytes(4, "big") for value in (*values, 0, 0, 0x40000000))

    data = path.read_bytes()
    place = data.rindex(stored(TURNS[0]))
    path.write_bytes(data[:place] + stored(TURNS[angle]) + data[place + 36 :])
    return path
