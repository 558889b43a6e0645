"""Quantise the frames of a clip to 256 colours.

Colours come from k-means on a bounded sample of the clip's pixels, started from two palettes, of which the better
result is kept; measured in tools/benchmarks/gif_quality.py. Clips with at most 256 colours keep them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from motion_module import AnimateDiffError

from .pyav import need_av

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

COLOURS = 256
_SAMPLE = 2**15  # pixels sampled from all frames together; more improve PSNR by less than 0.1 dB
_ROUNDS = 12  # of k-means
_SEED = 0
_SIDE = 16  # FFmpeg takes a palette as an image of 16x16 pixels


def _go_on() -> None:
    """Nothing stops it."""


def in_one_palette(frames: Sequence[Image], *, dither: bool, pause: Callable[[], None] = _go_on) -> Iterator[Image]:
    """Yield the frames in one shared palette. Palettes per frame would flicker.

    Args:
        pause: called now and then while the palette is found; an exception from it ends the search.
    """
    return _mapped(frames, _palette(frames, pause), dither)


def _palette(frames: Sequence[Image], pause: Callable[[], None]) -> list[tuple[int, int, int]]:
    """Up to 256 colours for all frames."""
    import torch

    few = _few_colours(frames)
    if few is not None:
        return few
    pixels = _sample(frames)
    with torch.no_grad():
        centres, _ = min((_k_means(pixels, start, pause) for start in _starts(pixels)), key=lambda found: found[1])
    return [(red, green, blue) for red, green, blue in centres.round().clamp(0, 255).to(torch.uint8).tolist()]


def _few_colours(frames: Sequence[Image]) -> list[tuple[int, int, int]] | None:
    """All colours of the clip if they fit into a palette, otherwise None."""
    seen: set[Any] = set()
    for frame in frames:
        colours = frame.convert("RGB").getcolors(COLOURS)
        seen.update(colour for _, colour in colours or ())
        if colours is None or len(seen) > COLOURS:
            return None
    return sorted(seen)


def _sample(frames: Sequence[Image]) -> Tensor:
    """Evenly spread pixels of all frames, ``n 3``. The sample is bounded, however long the clip."""
    import torch
    from PIL import Image

    width, height = frames[0].size
    step = max(len(frames) // _SAMPLE, 1)
    chosen = frames[::step]
    share = min(1.0, (_SAMPLE / (width * height * len(chosen))) ** 0.5)
    size = (max(int(width * share), 1), max(int(height * share), 1))
    seen = (frame.convert("RGB").resize(size, Image.Resampling.NEAREST).tobytes() for frame in chosen)
    return torch.frombuffer(bytearray(b"".join(seen)), dtype=torch.uint8).view(-1, 3).float()


def _starts(pixels: Tensor) -> Iterator[Tensor]:
    """Two initial palettes: one suits smooth images, the other detailed ones."""
    import torch
    from PIL import Image

    image = Image.frombytes("RGB", (len(pixels), 1), bytes(pixels.to(torch.uint8).flatten().tolist()))
    for method in (Image.Quantize.MEDIANCUT, Image.Quantize.FASTOCTREE):
        colours = image.quantize(COLOURS, method=method).getpalette() or []
        start = torch.tensor(colours[: 3 * COLOURS], dtype=torch.float32).view(-1, 3)
        yield start


def _k_means(pixels: Tensor, centres: Tensor, pause: Callable[[], None]) -> tuple[Tensor, float]:
    """Run k-means from initial centres; returns the centres and the mean squared distance to them."""
    import torch

    for _ in range(_ROUNDS):
        pause()
        nearest = torch.cdist(pixels, centres).argmin(1)
        count = torch.bincount(nearest, minlength=len(centres))[:, None]
        total = torch.zeros_like(centres).index_add_(0, nearest, pixels)
        centres = torch.where(count > 0, total / count.clamp(min=1), centres)
    return centres, float(torch.cdist(pixels, centres).amin(1).square().mean())


def _mapped(frames: Sequence[Image], colours: list[tuple[int, int, int]], dither: bool) -> Iterator[Image]:
    """Yield the frames in these colours. FFmpeg finds the nearest colours; Pillow, without PyAV, approximates."""
    try:
        av = need_av()
    except AnimateDiffError:
        return _mapped_by_pillow(frames, colours, dither)
    return _mapped_by_ffmpeg(av, frames, colours, dither)


def _mapped_by_pillow(frames: Sequence[Image], colours: list[tuple[int, int, int]], dither: bool) -> Iterator[Image]:
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(_padded(colours))
    how = Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE
    return (frame.convert("RGB").quantize(palette=palette, dither=how) for frame in frames)


def _mapped_by_ffmpeg(
    av: Any, frames: Sequence[Image], colours: list[tuple[int, int, int]], dither: bool
) -> Iterator[Image]:
    from PIL import Image

    tick = Fraction(1, 100)
    graph = av.filter.Graph()
    width, height = frames[0].size
    images = graph.add_buffer(width=width, height=height, format="rgb24", time_base=tick)
    palettes = graph.add_buffer(width=_SIDE, height=_SIDE, format="bgra", time_base=tick)
    layout = graph.add("format", "pix_fmts=bgra")
    use = graph.add("paletteuse", f"dither={'floyd_steinberg' if dither else 'none'}")
    sink = graph.add("buffersink")
    images.link_to(layout)
    layout.link_to(use, 0, 0)
    palettes.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()

    palette = av.VideoFrame.from_image(Image.frombytes("RGB", (_SIDE, _SIDE), _padded(colours)))
    palette = palette.reformat(format="bgra")
    palette.pts, palette.time_base = 0, tick
    palettes.push(palette)
    palettes.push(None)
    for index, frame in enumerate(frames):
        image = av.VideoFrame.from_image(frame.convert("RGB"))
        image.pts, image.time_base = index, tick
        images.push(image)
        if index + 1 == len(frames):
            images.push(None)
        mapped = sink.pull()
        plane = mapped.planes[0]
        shown = Image.frombytes("P", (width, height), bytes(plane), "raw", "P", plane.line_size)
        shown.putpalette(_as_rgb(bytes(mapped.planes[1])))  # FFmpeg sorts the colours
        yield shown


def _as_rgb(palette: bytes) -> bytes:
    """RGB bytes of a palette in FFmpeg's order, ``b g r a``."""
    return bytes(value for place in range(0, len(palette), 4) for value in palette[place : place + 3][::-1])


def _padded(colours: list[tuple[int, int, int]]) -> bytes:
    """Palette padded to 256 entries with its last colour, so that padding never introduces a new colour."""
    flat = bytes(value for colour in colours for value in colour)
    return flat + flat[-3:] * (COLOURS - len(colours))
