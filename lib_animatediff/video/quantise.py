"""Convert frames to the colours of a palette, with or without Floyd-Steinberg dithering.

The nearest colour of a pixel comes from a table over the colour cube. Error diffusion is computed on many pixels at
once: the pixels on a line ``x + 2 y`` of all frames of a piece do not depend on each other. FFmpeg's paletteuse took
five times as long, and Pillow's quantize loses 2 dB on clips of few hues (tools/benchmarks/gif_quality.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from .palette import COLOURS, best_colours, few_colours, nearest, raw_bytes, sample_pixels

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_BITS = 7  # of a channel in the table
_COARSE_BITS = 6  # of a channel for colours that the sample does not have
_PIECE = 2**23  # pixels converted at once
_MOST_AT_ONCE = 32  # frames
_PAUSE = 64  # lines between two calls of `pause`
PASSED_ON = 0.7  # share of a pixel's error that its neighbours get; all of it doubles the noise of the image
_SIXTEENTHS = (7, 3, 5, 1)  # Floyd and Steinberg: right; below left, below, below right


def in_palettes(
    frames: Sequence[Image], *, palette: str, dither: bool, pause: Callable[[], None] = lambda: None
) -> Iterator[Image]:
    """Yield the frames as palette images of up to 256 colours.

    Args:
        frames: images of one size. With one palette, they are read twice: for the palette, and to convert them.
        palette: ``"clip"``: one palette; ``"frame"``: one for each frame, which flickers.
        dither: whether missing colours are mixed from their neighbours.
        pause: called now and then while nothing is yielded; an exception from it ends the conversion.
    """
    if palette == "frame":
        return (image for frame in frames for image in _in_one_palette([frame], dither, pause))
    return _in_one_palette(frames, dither, pause)


def _in_one_palette(frames: Sequence[Image], dither: bool, pause: Callable[[], None]) -> Iterator[Image]:
    few = few_colours(frames)
    if few is not None:
        return _converted(frames, few, lambda pixels: _exact(pixels, few))
    sample = sample_pixels(frames)
    colours = best_colours(sample, pause)
    table = ColourTable(colours, sample)
    if dither:
        return _converted(frames, colours, lambda pixels: diffuse(pixels, table, pause))
    return _converted(frames, colours, table.lookup)


class ColourTable:
    """The nearest of some colours for every point of the colour cube.

    The table has 128 entries along each channel. Entries of a sample's colours are exact for the middle of their cell;
    others are those of a table with 64 entries.

    Args:
        colours: uint8 ``n 3``.
        sample: colours that are likely to be looked up, uint8 ``n 3``.

    Attributes:
        colours: as given, but float32.
    """

    def __init__(self, colours: Tensor, sample: Tensor) -> None:
        import torch

        self.colours = colours.float()
        side, repeats = 2**_COARSE_BITS, 2 ** (_BITS - _COARSE_BITS)
        coarse = self._nearest(torch.arange(side**3), _COARSE_BITS).view(side, 1, side, 1, side, 1)
        self._table = coarse.expand(side, repeats, side, repeats, side, repeats).reshape(-1)
        self._places = torch.tensor([4.0**_BITS, 2.0**_BITS, 1.0])
        cells = torch.unique(self._cells(sample.float()))
        self._table[cells] = self._nearest(cells, _BITS)

    def lookup(self, pixels: Tensor) -> Tensor:
        """Indices of the nearest colours, uint8 ``...``, of pixels ``... 3`` from 0 to 255."""
        return self._table.index_select(0, self._cells(pixels.reshape(-1, 3).float())).view(pixels.shape[:-1])

    def _cells(self, pixels: Tensor) -> Tensor:
        return (pixels * 2.0 ** (_BITS - 8)).floor_().mv(self._places).long()  # exact in float32: below 2**24

    def _nearest(self, cells: Tensor, bits: int) -> Tensor:
        """uint8 ``n``: the colour nearest to the middle of each cell."""
        import torch

        width, mask = 2 ** (8 - bits), 2**bits - 1
        corners = torch.stack([cells >> (2 * bits), (cells >> bits) & mask, cells & mask], dim=1)
        return nearest(corners * float(width) + (width - 1) / 2, self.colours)[0].to(torch.uint8)


def diffuse(pixels: Tensor, table: ColourTable, pause: Callable[[], None] = lambda: None) -> Tensor:
    """Floyd-Steinberg dithering of each frame, row by row from the left.

    Args:
        pixels: uint8 ``f h w 3``.
        pause: see `in_palettes`.

    Returns:
        Indices of colours, uint8 ``f h w``.
    """
    import torch

    frames, height, width = pixels.shape[:3]
    rows = pixels.permute(1, 2, 0, 3).contiguous()
    out = torch.empty(height, width, frames, dtype=torch.uint8)
    # Errors that the pixels of this line and of the next three receive, by row; a row more than the image has.
    errors = [torch.zeros(height + 1, frames, 3) for _ in range(4)]
    right, below_left, below, below_right = (PASSED_ON * part / 16 for part in _SIXTEENTHS)
    slope = max(width - 2, 0)  # from a pixel to the one below it and two to the left
    for line in range(width + 2 * (height - 1)):
        if line % _PAUSE == 0:
            pause()
        top, bottom = max(0, (line - width + 2) // 2), min(height, line // 2 + 1)
        if top >= bottom:  # of images that are one pixel wide
            errors.append(errors.pop(0))
            continue
        count, place = bottom - top, top * width + line - 2 * top
        source = rows.as_strided((count, frames, 3), (slope * frames * 3, 3, 1), place * frames * 3)
        wanted = torch.add(errors[0][top:bottom], source).clamp_(0, 255)
        index = table.lookup(wanted)
        out.as_strided((count, frames), (slope * frames, 1), place * frames).copy_(index)
        wanted -= table.colours.index_select(0, index.flatten().int()).view_as(wanted)
        errors[1][top:bottom].add_(wanted, alpha=right)
        errors[1][top + 1 : bottom + 1].add_(wanted, alpha=below_left)
        errors[2][top + 1 : bottom + 1].add_(wanted, alpha=below)
        errors[3][top + 1 : bottom + 1].add_(wanted, alpha=below_right)
        errors.append(errors.pop(0).zero_())
    return out.permute(2, 0, 1)


def _exact(pixels: Tensor, colours: Tensor) -> Tensor:
    """Indices of the pixels' own colours, which are in ascending order."""
    import torch

    places = torch.tensor([2**16, 2**8, 1], dtype=torch.int32)
    return torch.searchsorted(colours.int() @ places, pixels.int() @ places).to(torch.uint8)


def _converted(frames: Sequence[Image], colours: Tensor, convert: Callable[[Tensor], Tensor]) -> Iterator[Image]:
    """Yield the frames as palette images; ``convert`` makes uint8 ``f h w`` of uint8 ``f h w 3``."""
    import torch
    from PIL import Image

    width, height = frames[0].size
    flat = colours.flatten().tolist()
    padded = flat + flat[-3:] * (COLOURS - len(colours))  # with a colour of the image, so that no other one appears
    piece = min(max(_PIECE // (width * height), 1), _MOST_AT_ONCE)
    coming = iter(frames)
    while some := list(islice(coming, piece)):
        data = bytearray(b"".join(frame.convert("RGB").tobytes() for frame in some))
        with torch.no_grad():
            indices = convert(torch.frombuffer(data, dtype=torch.uint8).view(len(some), height, width, 3))
        for frame in indices:
            image = Image.frombytes("P", (width, height), raw_bytes(frame))
            image.putpalette(padded)
            yield image
