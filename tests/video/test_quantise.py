"""The colours of a GIF: dithering against a plain loop over the pixels, the table of colours, the palette's bounds."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from support.clip_files import psnr, smooth

from lib_animatediff.video import palette
from lib_animatediff.video.quantise import PASSED_ON, ColourTable, diffuse, in_palettes

EIGHT = torch.tensor([[r, g, b] for r in (20, 230) for g in (10, 250) for b in (0, 255)], dtype=torch.uint8)
FINE, COARSE = 2, 4  # width of a cell of the table, of sampled and of other colours


def pixels(*shape):
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def diffused_pixel_by_pixel(image, table):
    """Floyd and Steinberg's loop over rows and columns."""
    height, width = image.shape[:2]
    wanted = image.double()
    out = torch.zeros(height, width, dtype=torch.uint8)
    for y in range(height):
        for x in range(width):
            wanted[y, x].clamp_(0, 255)
            out[y, x] = table.lookup(wanted[y, x].float())
            error = PASSED_ON * (wanted[y, x] - table.colours[out[y, x].item()])
            for down, right, part in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if y + down < height and 0 <= x + right < width:
                    wanted[y + down, x + right] += error * part / 16
    return out


@pytest.mark.parametrize("size", [(9, 14), (14, 5), (1, 7), (7, 1), (6, 2), (1, 1)])
def test_dithering_in_lines_equals_the_loop_over_pixels(size):
    frames = pixels(3, *size)
    table = ColourTable(EIGHT, frames.reshape(-1, 3))
    found = diffuse(frames, table)
    for frame, one in zip(frames, found, strict=True):
        assert torch.equal(one, diffused_pixel_by_pixel(frame, table))


def test_the_table_finds_the_nearest_colour_within_the_width_of_its_cells():
    colours, sampled = pixels(256), pixels(500)
    table = ColourTable(colours, sampled)
    for looked_up, width in ((sampled, FINE), (pixels(4000), COARSE)):
        distances = torch.cdist(looked_up.float(), colours.float())
        found = distances.gather(1, table.lookup(looked_up).long()[:, None])[:, 0]
        slack = 2 * 3**0.5 * width / 2  # to the middle of the cell and back
        assert (found <= distances.amin(1) + slack).all()
        assert (found == distances.amin(1)).float().mean() > 0.8


def test_the_nearest_colour_is_exact_for_any_number_of_points():
    colours, points = pixels(7).float(), pixels(1300).float()
    index, halves = palette.nearest(points, colours)
    distances = torch.cdist(points, colours)
    assert torch.equal(distances.gather(1, index[:, None])[:, 0], distances.amin(1))
    assert torch.allclose(2 * halves + points.square().sum(1), distances.amin(1).square(), atol=0.1)


def test_frames_in_pieces_and_frames_one_by_one_are_the_same(monkeypatch):
    frames = smooth(5, (20, 24))
    together = [image.tobytes() for image in in_palettes(frames, palette="clip", dither=True)]
    monkeypatch.setattr("lib_animatediff.video.quantise._PIECE", 2 * 20 * 24)
    assert [image.tobytes() for image in in_palettes(frames, palette="clip", dither=True)] == together


def test_frames_are_read_in_pieces_while_images_are_taken(monkeypatch):
    """So that a long clip whose frames are made on demand never stands in memory as a whole."""
    monkeypatch.setattr("lib_animatediff.video.quantise._PIECE", 2 * 64 * 64)

    class Watched(list):
        read = 0

        def __iter__(self):
            for frame in super().__iter__():
                self.read += 1
                yield frame

    frames = Watched(smooth(9))
    images = in_palettes(frames, palette="clip", dither=True)
    frames.read = 0
    for taken in range(1, 10):
        next(images)
        assert frames.read <= taken + 1


def test_the_sample_is_bounded_however_long_the_clip():
    frame = Image.effect_noise((300, 200), 90).convert("RGB")
    assert len(palette.sample_pixels([frame])) > 50_000
    assert len(palette.sample_pixels([frame] * 400)) <= 2**16


@pytest.mark.parametrize("calls", [5, 25])  # in k-means, of two times twelve rounds; in the dithering
def test_the_search_for_colours_and_the_dithering_can_be_stopped(calls):
    left = [KeyboardInterrupt, *[None] * calls]

    def pause():
        if (stop := left.pop()) is not None:
            raise stop

    with pytest.raises(KeyboardInterrupt):
        list(in_palettes(smooth(4), palette="clip", dither=True, pause=pause))


def test_dithering_loses_two_decibels_at_most_and_wins_three_from_a_distance():
    """Tones between two colours are mixed: blurred, a dithered ramp is nearer to the original than a plain one."""
    from PIL import ImageFilter

    def from_a_distance(image):
        return image.convert("RGB").filter(ImageFilter.GaussianBlur(1.5))

    frames = smooth(16, (96, 96))
    plain, dithered = (
        list(in_palettes(frames, palette="clip", dither=dither))[8].convert("RGB") for dither in (False, True)
    )
    assert psnr(dithered, frames[8]) > psnr(plain, frames[8]) - 2
    far = from_a_distance(frames[8])
    assert psnr(from_a_distance(dithered), far) > psnr(from_a_distance(plain), far) + 3
