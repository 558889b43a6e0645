"""Find the 256 colours of a clip.

Colours come from k-means on the colours of a bounded sample of the clip's pixels, started from two palettes, of which
the better result is kept; measured in tools/benchmarks/gif_quality.py. Clips with at most 256 colours keep them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

COLOURS = 256
_SAMPLE = 2**16  # pixels sampled from all frames together; more improve PSNR by less than 0.1 dB
_MOST_CELLS = 2**14  # of the colour cube: k-means sees the mean colour of each cell, weighted by its pixels
_ROUNDS = 12  # of k-means
_ROWS = 512  # colours compared at once: their distances to 256 colours then stay in the processor's cache


def few_colours(frames: Sequence[Image]) -> Tensor | None:
    """All colours of the frames if they fit into a palette, ``n 3`` in ascending order; otherwise None."""
    import torch

    seen: set[Any] = set()
    for frame in frames:
        colours = frame.convert("RGB").getcolors(COLOURS)
        seen.update(colour for _, colour in colours or ())
        if colours is None or len(seen) > COLOURS:
            return None
    return torch.tensor(sorted(seen), dtype=torch.uint8)


def sample_pixels(frames: Sequence[Image]) -> Tensor:
    """Evenly spread pixels of all frames, uint8 ``n 3``. The sample is bounded, however long the clip."""
    import torch
    from PIL import Image

    width, height = frames[0].size
    step = max(len(frames) // _SAMPLE, 1)
    chosen = frames[::step]
    share = min(1.0, (_SAMPLE / (width * height * len(chosen))) ** 0.5)
    size = (max(int(width * share), 1), max(int(height * share), 1))
    seen = (frame.convert("RGB").resize(size, Image.Resampling.NEAREST).tobytes() for frame in chosen)
    return torch.frombuffer(bytearray(b"".join(seen)), dtype=torch.uint8).view(-1, 3)


def best_colours(pixels: Tensor, pause: Callable[[], None]) -> Tensor:
    """The palette with the least squared error on these pixels, uint8 ``n 3``.

    Args:
        pixels: uint8 ``n 3``.
        pause: called now and then; an exception from it ends the search.
    """
    import torch

    with torch.no_grad():
        cells, counts = _histogram(pixels)
        found = (_k_means(cells, counts, start, pause) for start in _starts(pixels))
        centres, _ = min(found, key=lambda result: result[1])
    return centres.round().clamp(0, 255).to(torch.uint8)


def nearest(points: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest colour of each point, and half of the squared distance, without the point's own square.

    Args:
        points: float32 ``n 3``.
        colours: float32 ``m 3``.
    """
    import torch

    halves, turned = colours.square().sum(1) / 2, -colours.t()
    found = [torch.addmm(halves, part, turned).min(1) for part in torch.split(points, _ROWS)]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])


def raw_bytes(tensor: Tensor) -> bytes:
    """The bytes of a uint8 tensor, in the order of its elements."""
    import torch

    data = bytearray(tensor.numel())
    torch.frombuffer(data, dtype=torch.uint8).view(tensor.shape).copy_(tensor)
    return bytes(data)


def _histogram(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean colour of each cell of the colour cube that has pixels, ``n 3``, and its number of pixels, ``n``.

    The cells are as small as `_MOST_CELLS` allows.
    """
    import torch

    whole = pixels.int()
    for bits in range(8, 0, -1):
        places = (whole >> (8 - bits)) @ torch.tensor([4**bits, 2**bits, 1], dtype=torch.int32)
        _, cell, counts = torch.unique(places, return_inverse=True, return_counts=True)
        if len(counts) <= _MOST_CELLS:
            break
    totals = torch.zeros(len(counts), 3).index_add_(0, cell, pixels.float())
    return totals / counts[:, None], counts.float()


def _starts(pixels: Tensor) -> Iterator[Tensor]:
    """Two initial palettes: one suits smooth images, the other detailed ones."""
    import torch
    from PIL import Image

    image = Image.frombytes("RGB", (len(pixels), 1), raw_bytes(pixels))
    for method in (Image.Quantize.MEDIANCUT, Image.Quantize.FASTOCTREE):
        colours = image.quantize(COLOURS, method=method).getpalette() or []
        yield torch.tensor(colours[: 3 * COLOURS], dtype=torch.float32).view(-1, 3)


def _k_means(points: Tensor, counts: Tensor, centres: Tensor, pause: Callable[[], None]) -> tuple[Tensor, float]:
    """Run k-means from initial centres; returns the centres and a measure of the error."""
    import torch

    for _ in range(_ROUNDS):
        pause()
        index, _ = nearest(points, centres)
        count = torch.zeros(len(centres)).index_add_(0, index, counts)[:, None]
        total = torch.zeros_like(centres).index_add_(0, index, points * counts[:, None])
        centres = torch.where(count > 0, total / count.clamp(min=1), centres)
    return centres, float((nearest(points, centres)[1] * counts).sum())
