"""What made a clip lies in its file, and is read back as it was."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from fractions import Fraction

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from support.clip_files import DATA, INFOTEXT, RECIPE, moving_bar, skip_without_avif, write_film
from support.matrix import every_once

from lib_animatediff import ClipError
from lib_animatediff.video import FORMATS, Recipe, read_clip, read_recipe, write_clip
from lib_animatediff.video.exif import exif_of, read_exif
from lib_animatediff.video.gif import gif_texts

CONTAINERS = [key for key in FORMATS if key != "txt"]
LONG = "狐と🦊 and a very (long:1.3) prompt, " * 600  # over 20 kB


def written(tmp_path, key, recipe=RECIPE, count=2, **more):
    skip_without_avif(key)
    (path,) = write_clip(tmp_path / "clip", moving_bar(count), formats=[key], recipe=recipe, **more)
    return path


TEXTS = [INFOTEXT, LONG, "plain", "ümlaut of Latin-1", "tab\tand\r\nWindows", " spaces around ", "\ufeffmark"]
TEXTS += ['a: b, c: "d\\"']


@pytest.mark.parametrize(("key", "count", "text"), every_once(CONTAINERS, [1, 3], TEXTS))
def test_the_recipe_comes_back_as_it_was(tmp_path, key, count, text):
    recipe = Recipe(text, DATA | {"prompt": text})
    found = read_recipe(written(tmp_path, key, recipe, count, fps=23.976, loop_count=3))
    assert found.infotext == text
    assert found.data == recipe.data
    assert (found.fps, found.loop_count) == (Fraction(24000, 1001), 3)


@given(text=st.text(max_size=300), data=st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("key", ["gif", "webp", "apng", "mp4", "webm"])
def test_any_text_comes_back(tmp_path, key, text, data):
    recipe = Recipe(text, data)
    found = read_recipe(written(tmp_path, key, recipe))
    assert (found.infotext, found.data) == (recipe.infotext, recipe.data)


def test_a_txt_holds_the_text(tmp_path):
    path = written(tmp_path, "txt")
    assert path.read_bytes() == INFOTEXT.encode() + b"\n"
    assert read_recipe(path) == Recipe(INFOTEXT)


def test_characters_that_no_file_can_hold_do_not_cost_the_clip(tmp_path):
    assert Recipe("half \ud83e pair, \0 nul").infotext == "half ? pair,   nul"


@pytest.mark.parametrize(
    "data",
    [*({"a": value} for value in (float("nan"), float("inf"), object(), {"b"}, {2: 3})), {1: "a"}, ["a"]],
)
def test_data_that_is_no_json_is_refused(data):
    with pytest.raises(ClipError, match="JSON"):
        Recipe("", data)


def test_the_data_are_a_copy():
    data = {"a": [1]}
    recipe = Recipe("", data)
    data["a"].append(2)
    assert recipe.data == {"a": [1]}


def webuis_text(path):
    """What the WebUI's PNG Info page shows, by its documented rules."""
    with Image.open(path) as picture:
        items = dict(picture.info)
    if "exif" in items:
        return read_by_the_standard(items["exif"])
    return items["comment"].decode() if "comment" in items else items.get("parameters")


def read_by_the_standard(exif):
    """The user's comment in UTF-16, most significant byte first, as piexif reads it."""
    data = exif.removeprefix(b"Exif\0\0")
    assert data[:4] == b"MM\0*"

    def directory(start):
        places = (start + 2 + 12 * i for i in range(data[start + 1]))
        return {struct.unpack_from(">H", data, place)[0]: place for place in places}

    (inner,) = struct.unpack_from(">I", data, directory(*struct.unpack_from(">I", data, 4))[0x8769] + 8)
    kind, count, place = struct.unpack_from(">HII", data, directory(inner)[0x9286] + 2)
    comment = data[place : place + count]
    assert (kind, comment[:8]) == (7, b"UNICODE\0")
    return comment[8:].decode("utf-16-be")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("key", ["gif", "webp", "apng", "avif", "frames"])
def test_the_webui_finds_the_infotext_alone_in_each_file(tmp_path, key, count):
    path = written(tmp_path, key, count=count)
    files = list(path.iterdir()) if key == "frames" else [path]
    assert [webuis_text(file) for file in files] == [INFOTEXT] * (count if key == "frames" else 1)
    with Image.open(files[0]) as picture:
        texts = [str(value) for name, value in picture.info.items() if name != "exif"]
        assert not [text for text in texts if "animatediff_recipe" in text]


@pytest.mark.parametrize("key", ["mp4", "webm"])
def test_players_find_the_infotext_as_the_comment(tmp_path, key):
    with av.open(str(written(tmp_path, key))) as container:
        texts = {name.lower(): text for name, text in container.metadata.items()}
    assert texts["comment"] == INFOTEXT


def test_the_block_hurts_no_reader_of_gifs(tmp_path):
    """Readers skip an application's extension that they do not know."""
    path = written(tmp_path, "gif", Recipe(INFOTEXT, {"long": "x" * 100_000}), count=3)
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
    with Image.open(path) as picture:
        assert picture.n_frames == 3


THEIRS = 'a fox\nNegative prompt: b\nSteps: 20, Seed: 1, AnimateDiff: "enable: True, model: mm_sd_v15_v2.ckpt, fps: 8"'


def exif_in_order(order, text, encoding):
    """A block of another program's: directories with other fields, and the text where the standard wants it."""
    comment = b"UNICODE\0" + text.encode(encoding)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    outer = struct.pack(order + "HHHIHHHHIII", 2, 0x0112, 3, 1, 1, 0, 0x8769, 4, 1, 38, 0)
    inner = struct.pack(order + "HHHIII", 1, 0x9286, 7, len(comment), 56, 0)
    return head + outer + inner + comment


@pytest.mark.parametrize(("order", "encoding"), [("<", "utf-16-le"), (">", "utf-16-be")])
def test_exif_of_either_byte_order(order, encoding):
    assert read_exif(exif_in_order(order, THEIRS, encoding)) == (THEIRS, None)
    assert read_exif(b"Exif\0\0" + exif_in_order(order, THEIRS, encoding)) == (THEIRS, None)


def test_pictures_and_clips_of_the_webui_and_the_existing_extension(tmp_path):
    first, *more = moving_bar(2)
    exif, info = exif_in_order(">", THEIRS, "utf-16-be"), PngImagePlugin.PngInfo()
    info.add_text("parameters", THEIRS)
    first.save(tmp_path / "a.gif", save_all=True, append_images=more, comment=THEIRS)
    first.save(tmp_path / "a.png", pnginfo=info)
    first.save(tmp_path / "a.webp", save_all=True, append_images=more, exif=exif)
    first.save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    (tmp_path / "a.txt").write_text(THEIRS + "\n", encoding="utf-8")
    write_film(tmp_path / "a.mp4", moving_bar(1, (64, 64)), comment=THEIRS)
    for name in ("a.gif", "a.png", "a.webp", "a.jpg", "a.txt", "a.mp4"):
        assert read_recipe(tmp_path / name) == Recipe(THEIRS), name


@pytest.mark.parametrize(
    "text", ['{"workflow": 1}', "[1]", '"text"', "no json", '{"animatediff_recipe": 1}', "[" * 100_000]
)
def test_another_programs_description_is_no_recipe(tmp_path, text):
    path = write_film(tmp_path / "a.webm", moving_bar(1, (64, 64)), codec="libvpx-vp9", description=text)
    assert read_recipe(path) == Recipe()


def test_a_file_that_says_nothing_has_an_empty_recipe(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp")
    write_film(tmp_path / "a.mp4", moving_bar(2, (64, 64)))
    for name in ("a.png", "a.webp", "a.mp4"):
        assert read_recipe(tmp_path / name) == Recipe()


@pytest.mark.parametrize("key", [key for key in CONTAINERS if key != "frames"])
def test_a_file_that_is_cut_or_changed_anywhere_raises_nothing_else(tmp_path, key):
    """Each damage gives some recipe or a plain error, never another exception and never an endless loop."""
    path = written(tmp_path, key, count=1)
    data = path.read_bytes()
    for place in range(0, len(data), max(len(data) // 60, 1)):
        for broken in (data[:place], data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]):
            path.write_bytes(broken)
            with suppress(ClipError):
                read_recipe(path)


@pytest.mark.parametrize("key", ["mp4", "webm"])
def test_a_text_that_is_no_unicode_is_read_as_far_as_it_goes(tmp_path, key):
    path = written(tmp_path, key, Recipe("before the damage, after it"))
    path.write_bytes(path.read_bytes().replace(b"the damage", b"the \xff\xfemage"))
    assert read_recipe(path).infotext == "before the \ufffd\ufffdmage, after it"


@given(data=st.binary(max_size=300))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_no_exif_and_no_gif(tmp_path, data):
    read_exif(data)
    read_exif(b"MM\0*\0\0\0\x08" + data)
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + data)
    gif_texts(tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.mp4", None, "There is no file"),
        ("page.mp4", b"<html>", "cannot be read"),
        ("empty.gif", b"", "cannot be read"),
    ],
)
def test_what_is_no_clip_is_refused_in_plain_words(tmp_path, name, content, words):
    with pytest.raises(ClipError, match="contains no PNG frames"):
        read_recipe(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ClipError, match=words):
        read_recipe(tmp_path / name)


def test_a_playlist_leads_nowhere(tmp_path):
    """FFmpeg would open what a playlist names, be it a file or an address."""
    film = write_film(tmp_path / "film.mp4", moving_bar(3, (64, 64)))
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film.as_uri()}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {film.name}\n",
    ):
        (tmp_path / "a.mp4").write_text(text)
        for read in (read_recipe, lambda path: list(read_clip(path))):
            with pytest.raises(ClipError):
                read(tmp_path / "a.mp4")


def test_the_block_is_one_json_object_in_ascii():
    block = RECIPE.block(Fraction(8), 0)
    assert block.isascii()
    assert json.loads(block) == {"animatediff_recipe": 1, "fps": "8", "loop_count": 0, "data": DATA}
    assert read_exif(exif_of(INFOTEXT, block)) == (INFOTEXT, block.encode())
