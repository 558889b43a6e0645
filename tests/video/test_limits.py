"""Files from strangers: what a small file claims costs neither memory nor time, and what is cut short is named."""

from __future__ import annotations

import base64
import io
import os
import struct
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from lib_animatediff.request.masks import packed_mask
from lib_animatediff.video import decode_video, read_clip, read_recipe, write_clip
from lib_animatediff.video.exif import read_exif
from lib_animatediff.video.series import is_pattern
from motion_module import AnimateDiffError, ClipError

SECONDS = 5
MEGABYTES = 300


def frames(count=4, size=(32, 24)):
    return [Image.effect_noise(size, 60 + 5 * index).convert("RGB") for index in range(count)]


@pytest.fixture
def is_cheap():
    """Less time and Python memory than a stranger's small file may cost."""
    tracemalloc.start()
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SECONDS
    assert tracemalloc.get_traced_memory()[1] < MEGABYTES * 2**20
    tracemalloc.stop()


def png_with(block: str) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\0")
    chunks = [(b"IHDR", header), (b"adJs", block.encode()), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


RATES = ['"1e100000000"', '"1e-100000000"', "1e400", "Infinity", "NaN", "0", "-8", f'"{"9" * 5000}"', "9" * 5000]
RATES += ['"1/0"', '"0/5"', "true", "[8]", '"8 "', '"٣"']


LOOPS = ["-1", "1e9", "65536", "9" * 5000, '"2"', "true"]
BLOCKS = [f'{{"animatediff_recipe":1,"fps":{fps},"loop_count":0,"data":{{}}}}' for fps in RATES]
BLOCKS += [f'{{"animatediff_recipe":1,"fps":"8","loop_count":{loops},"data":{{}}}}' for loops in LOOPS]
BLOCKS += ['{"animatediff_recipe":1,"data":' + "[" * 100_000]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda text: text[23:50])
def test_a_rate_or_a_loop_count_that_is_none_and_deep_json_leave_no_recipe(tmp_path, is_cheap, block):
    path = tmp_path / "clip.png"
    path.write_bytes(png_with(block))
    recipe = read_recipe(path)
    assert (recipe.fps, recipe.data) == (None, None)


def test_many_large_entries_in_exif(is_cheap):
    """65,535 entries, each of which claims the whole block."""
    entry = struct.pack(">HHII", 0x9286, 7, 340_000, 0)
    directory = struct.pack(">HHHIII", 1, 0x8769, 4, 1, 26, 0)
    fields = struct.pack(">H", 20_000) + b"".join(
        struct.pack(">H", 0xA000 + index % 0x1000) + entry[2:] for index in range(20_000)
    )
    assert read_exif(b"MM\0*\0\0\0\x08" + directory + fields + bytes(100_000)) == ("", None)


def gif_of(size, count=1) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + bytes([2, 2, 0x4C, 1, 0])
    return head + frame * count + b";"


LARGE_SCREEN = gif_of((65_000, 60_000))
LARGE_SECOND_FRAME = gif_of((1, 1))[:-1] + gif_of((12_000, 12_000))[19:]


@pytest.mark.parametrize("data", [LARGE_SCREEN, LARGE_SECOND_FRAME], ids=["screen", "frame"])
def test_a_small_gif_with_a_large_screen_or_frame(tmp_path, is_cheap, data):
    path = tmp_path / "large.gif"
    path.write_bytes(data)
    with pytest.raises(AnimateDiffError, match="65000x60000|bomb" if data is LARGE_SCREEN else ""):
        list(read_clip(path))


def test_the_first_frame_of_a_long_gif_comes_at_once(tmp_path, is_cheap):
    path = tmp_path / "long.gif"
    path.write_bytes(gif_of((1, 1), 200_000))
    assert next(read_clip(path)).image.size == (1, 1)


def test_more_frames_than_a_clip_has(tmp_path, monkeypatch):
    monkeypatch.setattr("lib_animatediff.video.reader.VIDEO_FRAMES", 5)
    path = tmp_path / "long.gif"
    path.write_bytes(gif_of((1, 1), 6))
    with pytest.raises(AnimateDiffError, match="more than 5 frames"):
        list(read_clip(path))


def test_a_mask_of_many_scans(is_cheap):
    buffer = io.BytesIO()
    Image.new("L", (2000, 2000)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    bad = data[:-2] + scan * 5000 + data[-2:]
    with pytest.raises(AnimateDiffError, match="scans"):
        packed_mask(base64.b64encode(bad).decode())
    packed_mask(base64.b64encode(data).decode())


def test_a_pipe_is_refused(tmp_path):
    path = tmp_path / "pipe.gif"
    os.mkfifo(path)

    def read():
        with pytest.raises(AnimateDiffError):
            read_recipe(path)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(SECONDS)
    assert not reading.is_alive()
    with pytest.raises(AnimateDiffError, match="pipe"):
        list(read_clip(path))


@pytest.mark.parametrize("form", ["gif", "apng", "webp", "mp4", "webm", "avif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_short_is_named_behind_the_frames_that_are_there(tmp_path, form, share):
    whole = write_clip(tmp_path / "whole", frames(8), formats=[form], fps=8)[0]
    assert len(list(read_clip(whole))) == 8
    path = tmp_path / f"cut{whole.suffix}"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    read = []
    with pytest.raises(AnimateDiffError, match=r"cut short|damaged|cannot be"):
        read.extend((frame.index, frame.image.size) for frame in read_clip(path))
    assert read == [(index, (32, 24)) for index in range(len(read))]
    assert read or (form, share) != ("webm", 0.9)


def test_a_video_without_its_data_says_how_many_frames_it_has(tmp_path):
    whole = write_clip(tmp_path / "whole", frames(8), formats=["mp4"], fps=8)[0]
    data = whole.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: data.index(b"mdat") + 8])
    with pytest.raises(AnimateDiffError, match="0 of 8 frames"):
        list(read_clip(path))


def test_a_frame_that_cannot_be_decoded_is_named(monkeypatch, tmp_path):
    (path,) = write_clip(tmp_path / "clip.mp4", [Image.new("RGB", (16, 16))] * 2)
    monkeypatch.setattr(decode_video.DecodedFrame, "image", Mock(side_effect=OSError("Operation not supported")))
    frame = list(read_clip(path))[1]
    with pytest.raises(ClipError, match=r"Frame 1 of the clip cannot be decoded \(Operation not supported\)"):
        _ = frame.image


def test_a_webm_that_claims_a_vast_header_is_cut_short(tmp_path):
    path = tmp_path / "clip.webm"
    path.write_bytes(b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe" + b"\0" * 20)
    with pytest.raises(ClipError):
        next(read_clip(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_no_pipe_or_device_is_replaced_by_a_file(tmp_path):
    """As root, renaming would put a clip in the place of /dev/null."""
    os.mkfifo(tmp_path / "clip.gif")
    with pytest.raises(AnimateDiffError, match="it is a pipe or a device"):
        write_clip(tmp_path / "clip.gif", frames())
    assert (tmp_path / "clip.gif").is_fifo()


def test_a_pattern_longer_than_any_name_is_none():
    """Python would make a regular expression of it, in a time that grows with the square of its length."""
    assert is_pattern(Path("[" * 100))
    assert not is_pattern(Path("[" * 20_000))
