"""Masks of a video as images: their levels, their size, which of them belongs to which frame, and what is refused."""

from __future__ import annotations

import pytest
from PIL import Image
from support.source_files import shades

from lib_animatediff import ClipError, VideoMask
from lib_animatediff.video import Source, examine, source_frames, write_clip
from lib_animatediff.video.mask import examine_mask, mask_frames

SIZE = (16, 8)


@pytest.fixture
def source(tmp_path):
    (path,) = write_clip(tmp_path / "film.png", shades(6, SIZE), fps=5)
    return Source(path)


def masks_of(mask, source, frames, size=SIZE):
    return list(mask_frames(mask, source, size, frames))


def levels_of(images):
    return [image.getpixel((0, 0)) for image in images]


def written(path, images):
    path.mkdir()
    for number, image in enumerate(images):
        image.save(path / f"{number}.png")
    return path


def test_nearly_black_and_nearly_white_are_black_and_white(tmp_path):
    flat = [Image.new("L", SIZE, level) for level in (0, 8, 9, 127, 128, 246, 247, 255)]
    found = masks_of(VideoMask(written(tmp_path / "flat", flat)), Source(written(tmp_path / "in", shades(8, SIZE))), 8)
    assert levels_of(found) == [0, 0, 1, 127, 128, 254, 255, 255]
    inverted = VideoMask(tmp_path / "flat", invert=True)
    assert levels_of(masks_of(inverted, Source(tmp_path / "in"), 8)) == [255, 255, 254, 128, 127, 1, 0, 0]


def test_one_image_is_the_mask_of_every_frame(tmp_path, source):
    Image.new("RGBA", SIZE, (255, 255, 255, 0)).save(tmp_path / "clear.png")
    masks = masks_of(VideoMask(tmp_path / "clear.png"), source, 5)
    assert levels_of(masks) == [0] * 5  # transparent parts are black
    assert len({id(mask) for mask in masks}) == 1
    (still,) = write_clip(tmp_path / "still.gif", [Image.new("RGB", SIZE, "white")], fps=5)
    assert levels_of(masks_of(VideoMask(still), source, 3)) == [255] * 3


@pytest.mark.parametrize("part", [{}, {"start": 2}, {"every": 3}, {"start": 1, "end": 4, "every": 2}, {"fps": 10}])
def test_the_masks_of_the_chosen_frames_are_chosen(tmp_path, part):
    """Frame i of the film and mask i have the same level."""
    (film,) = write_clip(tmp_path / "film.png", shades(6, SIZE), fps=5)
    (masks,) = write_clip(tmp_path / "masks.png", [image.resize((32, 16)) for image in shades(9, (32, 16))], fps=5)
    source = Source(film, **part)
    facts = examine(source)
    wanted = [image.getpixel((0, 0))[0] for image in source_frames(source, SIZE, facts.frames)]
    found = levels_of(masks_of(VideoMask(masks), source, facts.frames))
    assert found == [max(0, round((level - 8) * 255 / 239)) for level in wanted]
    assert examine_mask(VideoMask(masks), source, facts)  # they go on


def test_the_fit_cuts_video_and_mask_alike(tmp_path):
    """The edge between black and white lies where the video has its own."""
    image = Image.new("L", (40, 8))
    image.paste(255, (0, 0, 20, 8))
    image.save(tmp_path / "mask.png")
    image.resize((80, 16)).save(tmp_path / "large.png")
    written(tmp_path / "in", [image.convert("RGB")] * 2)
    for fit, size in (("crop", (16, 8)), ("pad", (40, 40)), ("scale", (80, 24))):
        source = Source(tmp_path / "in", fit=fit)
        for name in ("mask.png", "large.png"):
            (mask,) = masks_of(VideoMask(tmp_path / name), source, 1, size)
            assert mask.size == size
            middle = size[1] // 2
            assert [mask.getpixel((x, middle)) for x in (2, size[0] // 2 - 5)] == [255, 255]
            assert [mask.getpixel((x, middle)) for x in (size[0] // 2 + 5, size[0] - 2)] == [0, 0]
            if fit == "pad":
                assert mask.crop((0, 0, 40, 15)).getextrema() == (0, 0)


def test_transparency_is_white_and_so_are_edges_that_pad_adds(tmp_path):
    images = [Image.new("RGBA", SIZE, (9, 9, 9, 255)), Image.new("RGBA", SIZE, (9, 9, 9, 0))]
    source = Source(written(tmp_path / "in", images), fit="pad")
    opaque, clear = masks_of(VideoMask(), source, 2, (16, 16))
    assert clear.getextrema() == (255, 255)
    assert [opaque.getpixel((8, y)) for y in (1, 8, 15)] == [255, 0, 255]
    opaque, clear = masks_of(VideoMask(invert=True), source, 2, (16, 16))
    assert clear.getextrema() == (0, 0)
    assert [opaque.getpixel((8, y)) for y in (1, 8, 15)] == [0, 255, 0]
    assert examine_mask(VideoMask(), source, examine(source)) is False


def test_a_mask_that_is_changed_after_the_check_is_named(tmp_path, source):
    folder = written(tmp_path / "masks", [Image.new("L", SIZE)] * 6)
    coming = mask_frames(VideoMask(folder), source, SIZE, 6)
    next(coming)
    (folder / "5.png").unlink()
    with pytest.raises(ClipError, match="masks has changed: only 5 of 6"):
        masks_of(VideoMask(folder), source, 6)
