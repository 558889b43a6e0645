"""Whatever happens while a clip is written: no frame is lost, no half file is left, and the words are plain."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import av
import pytest
from PIL import Image
from support.clip_files import RECIPE, moving_bar, smooth
from support.matrix import in_matrix

from lib_animatediff import ClipError
from lib_animatediff.video import atomic as whole
from lib_animatediff.video import encode_video as film
from lib_animatediff.video import formats, read_clip, read_recipe, write_clip, write_gif
from motion_module.errors import ClipNotWrittenError

ROOT = Path(__file__).parents[2]
WRITERS = ["gif", "webp", "apng", "mp4", "webm"]
FRAMES = moving_bar(4)
NOISE = [Image.effect_noise((64, 64), 90).convert("RGB") for _ in range(60)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """The system's folder for what is temporary, for the test alone."""
    folder = tmp_path_factory.mktemp("system")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def write(folder, keys=("gif",), frames=FRAMES, **more):
    return write_clip(folder / "clip", frames, formats=keys, recipe=RECIPE, **more)


def failure(folder, keys=("gif",), **more):
    with pytest.raises(ClipNotWrittenError) as caught:
        write(folder, keys, **more)
    return caught.value


def are_safe(place, frames=FRAMES):
    files = sorted(place.iterdir())
    assert [Image.open(file).convert("RGB").tobytes() for file in files] == [frame.tobytes() for frame in frames]
    assert read_recipe(place).data == RECIPE.data


def broken(monkeypatch, key, error=None):
    def write(part, _clip):
        part.write_bytes(b"half a file")
        raise error or RuntimeError("the encoder is on fire")

    monkeypatch.setitem(formats.FORMATS, key, formats.Format(key.upper(), formats.FORMATS[key].suffix, write))


@pytest.mark.parametrize("key", WRITERS)
def test_an_encoder_that_fails_loses_no_frame(tmp_path, monkeypatch, key):
    broken(monkeypatch, key)
    error = failure(tmp_path, [key])
    place, suffix = tmp_path / "clip-frames", ".png" if key == "apng" else f".{key}"
    assert error.frames_at == place
    assert list(tmp_path.iterdir()) == [place]
    are_safe(place)
    why = f"clip{suffix} was not written: the encoder is on fire."
    assert str(error) == f"{why} The frames were saved in {place}. [AD-V26]"


def test_the_other_formats_are_written_all_the_same(tmp_path, monkeypatch):
    broken(monkeypatch, "webp")
    error = failure(tmp_path, ["gif", "webp", "mp4"])
    assert error.written == [tmp_path / "clip.gif", tmp_path / "clip.mp4"]
    assert all(len(list(read_clip(path))) == 4 for path in error.written)
    are_safe(error.frames_at)


@pytest.mark.parametrize("key", ["apng", "frames"])
def test_frames_that_are_there_without_loss_are_not_saved_twice(tmp_path, monkeypatch, key):
    broken(monkeypatch, "mp4")
    error = failure(tmp_path, [key, "mp4"])
    assert error.frames_at == error.written[0]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_former_clip_and_former_frames_stay(tmp_path, monkeypatch):
    (tmp_path / "clip.gif").write_bytes(b"former")
    (tmp_path / "clip-frames").mkdir()
    broken(monkeypatch, "gif")
    error = failure(tmp_path)
    assert error.frames_at == tmp_path / "clip-frames-2"
    assert (tmp_path / "clip.gif").read_bytes() == b"former"
    assert list((tmp_path / "clip-frames").iterdir()) == []


def test_a_film_that_lacks_frames_is_not_taken_for_whole(tmp_path, monkeypatch):
    flushed = film._flushed
    monkeypatch.setattr(film, "_flushed", lambda stream: list(flushed(stream))[:-1])
    assert "of 4 frames were written" in str(failure(tmp_path, ["mp4"]))
    assert list(tmp_path.iterdir()) == [tmp_path / "clip-frames"]


def without_pyav(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)


def without_codecs(monkeypatch):
    monkeypatch.setattr(av.codec, "Codec", Mock(side_effect=ValueError))


def without_avif(monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.SAVE, "AVIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_avif", None)


@pytest.mark.parametrize(
    ("taken", "key", "words"),
    [
        (without_pyav, "mp4", "pip install av"),
        (without_pyav, "webm", "pip install av"),
        (without_codecs, "mp4", "lacks libx264. Update it: pip install --upgrade av"),
        (without_avif, "avif", "pip install pillow-avif-plugin"),
    ],
)
def test_without_an_encoder_the_sentence_says_what_to_install(tmp_path, monkeypatch, taken, key, words):
    taken(monkeypatch)
    error = failure(tmp_path, [key])
    assert words in str(error)
    are_safe(error.frames_at)


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    broken(monkeypatch, "gif", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


@contextmanager
def files_no_larger_than(size):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("key", WRITERS)
def test_a_file_that_may_not_grow_is_told_and_its_frames_are_saved(tmp_path, key):
    """Each frame alone is small enough for the limit, the clip is not."""
    frames = NOISE[:40]
    (tmp_path / "clip.gif").write_bytes(b"former")
    with files_no_larger_than(20_000):
        error = failure(tmp_path, [key], frames=frames)
    assert "exceed the size limit of the file system" in str(error)
    are_safe(error.frames_at, frames)
    assert (tmp_path / "clip.gif").read_bytes() == b"former"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "clip-frames", tmp_path / "clip.gif"]


def mounted(place, options):
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no disk of its own without the right to mount one")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture(params=["full", "read-only"])
def place(request, tmp_path):
    folder = tmp_path / "disk"
    if request.param == "full":
        yield from mounted(folder, "size=48k")
    elif os.name == "posix" and not os.geteuid():  # no permission stops root, a read-only mount does
        yield from mounted(folder, "ro,size=64k")
    else:
        folder.mkdir(0o500)
        yield folder
        folder.chmod(0o700)


@pytest.mark.parametrize("key", [*WRITERS, "frames"])
def test_a_full_disk_or_a_read_only_folder_is_told_and_the_frames_go_elsewhere(request, place, elsewhere, key):
    error = failure(place, [key], frames=NOISE)
    reasons = {"full": "the disk is full", "read-only": "the folder is (read-only|not writable)"}
    assert re.search(reasons[request.node.callspec.params["place"]], str(error))
    assert error.frames_at == elsewhere / "AnimateDiff" / "clip-frames"
    are_safe(error.frames_at, NOISE)
    assert not list(place.iterdir())


def test_with_no_place_at_all_the_words_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file" / "below"))
    (tmp_path / "file").touch()
    error = failure(tmp_path / "file")
    assert error.frames_at is None
    assert "could not be saved either" in str(error)


def test_a_name_that_is_too_long_is_told(tmp_path):
    with pytest.raises(ClipNotWrittenError, match="the name is too long") as caught:
        write_clip(tmp_path / ("x" * 300), FRAMES, formats=["gif"], recipe=RECIPE)
    are_safe(caught.value.frames_at)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_reasons_are_words(number):
    assert os.strerror(number) not in whole.plain_reason(OSError(number, os.strerror(number)))


def test_a_virus_scanner_that_holds_the_file_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    replace, calls = Path.replace, []

    def held(self, target):
        calls.append(target)
        if len(calls) < 4:
            raise PermissionError(errno.EACCES, "held")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held)
    write(tmp_path)
    assert len(calls) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["clip.gif"]


def test_frames_replace_frames_but_nothing_else(tmp_path):
    write(tmp_path, ["frames"], frames=moving_bar(6))
    write(tmp_path, ["frames"])
    are_safe(tmp_path / "clip")
    (tmp_path / "clip" / "diary.txt").write_text("dear diary")
    with pytest.raises(ClipError, match="contains other files than frames"):
        write(tmp_path, ["frames"])
    assert (tmp_path / "clip" / "diary.txt").read_text() == "dear diary"


def test_frames_that_fail_leave_the_former_ones(tmp_path, monkeypatch):
    write(tmp_path, ["frames"])
    move, moved = whole._move, []

    def fail(part, path):
        moved.append(path)
        if len(moved) == 2:
            raise OSError(errno.EIO, "broken")
        move(part, path)

    monkeypatch.setattr(whole, "_move", fail)
    failure(tmp_path, ["frames"], frames=moving_bar(2))
    are_safe(tmp_path / "clip")


@pytest.mark.parametrize("key", ["gif", "mp4"])
def test_a_folder_of_the_clips_name_is_left_alone(tmp_path, key):
    (tmp_path / f"clip.{key}").mkdir()
    with pytest.raises(ClipError, match="is a folder"):
        write(tmp_path, ["webp", key])
    assert [path.name for path in tmp_path.iterdir()] == [f"clip.{key}"]


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from support.clip_files import smooth
from lib_animatediff.video import atomic as whole, write_clip
whole._move = lambda part, path: (print("ready", flush=True), time.sleep(60))
write_clip(Path({path!r}), smooth(8), formats=[{key!r}])
"""


def make_old(path):
    os.utime(path, (time.time() - whole.LEFTOVER_AGE - 1,) * 2)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal")
@pytest.mark.parametrize("key", ["gif", in_matrix("mp4"), in_matrix("frames")])
def test_a_killed_process_leaves_nothing_that_looks_like_a_clip(tmp_path, key):
    (tmp_path / "clip.gif").write_bytes(b"former")
    code = KILLED.format(root=str(ROOT), tests=str(ROOT / "tests"), path=str(tmp_path / "clip"), key=key)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = set(tmp_path.iterdir()) - {tmp_path / "clip.gif"}
    assert left.name.startswith(".animatediff-")
    assert left.suffix == ".part"
    assert (tmp_path / "clip.gif").read_bytes() == b"former"
    # A young one may belong to a process that is still at work.
    write_clip(tmp_path / "other.gif", FRAMES)
    assert left.exists()
    make_old(left)
    write_clip(tmp_path / "other.gif", FRAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.gif", "other.gif"]


def test_the_parts_of_other_programs_are_left_alone(tmp_path):
    for name in ("film.mp4.part", ".animatediff-notes.txt"):
        (tmp_path / name).touch()
        make_old(tmp_path / name)
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".animatediff-notes.txt", "clip.gif", "film.mp4.part"]


def test_files_can_be_read_by_other_programs(tmp_path):
    paths = write(tmp_path, ["mp4", "gif", "frames"], frames=smooth(2))
    if os.name == "posix":
        assert [path.stat().st_mode & 0o777 for path in paths] == [0o644, 0o644, 0o755]


@pytest.mark.parametrize("name", ["clip.gif", "x" * 251 + ".gif", "狐 [1] %.gif"])
def test_nothing_but_the_clip_is_left_in_a_folder_made_for_it(tmp_path, name):
    path = tmp_path / "new" / "folder" / name
    write_gif(path, moving_bar(2), fps=8)
    assert list(path.parent.iterdir()) == [path]


def test_a_picture_that_cannot_be_read_leaves_the_former_clip(tmp_path):
    path, png = tmp_path / "clip.gif", io.BytesIO()
    path.write_bytes(b"former")
    moving_bar(1)[0].save(png, "PNG")
    broken = Image.open(io.BytesIO(png.getvalue()[:-40]))
    with pytest.raises(OSError, match="truncated"):
        write_gif(path, [broken], fps=8)
    assert [(child, child.read_bytes()) for child in tmp_path.iterdir()] == [(path, b"former")]
